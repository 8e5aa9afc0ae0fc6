"""What results are known by: one row for each part, and what is no part."""

import pytest
from helpers import config

from eosvos.errors import UserError
from eosvos.evaluation import manifest as module
from eosvos.evaluation.manifest import manifest, open_results

DAVIS = ("dataset=davis2017", "dataset.root=a", "segmenter=light_deeplab", "backbone=tiny")
OWN = (
    "dataset=folder",
    "dataset.images=a",
    "dataset.masks=a.png",
    "segmenter=light_deeplab",
    "backbone=tiny",
)

# The manifest's part, a command line, what is added to it.
PARTS = (
    ("model", DAVIS, "segmenter.channels=7"),
    ("model", DAVIS, "backbone.width=7"),
    ("model", DAVIS, "meta.inner_lr.init=0.7"),
    ("model", DAVIS, "meta.order=second_order"),
    ("model", DAVIS, "meta.inner_lr.max_grad_norm=7.0"),
    ("model", DAVIS, "meta.train_encoder=false"),
    ("finetune", DAVIS, "finetune.steps=7"),
    ("finetune", DAVIS, "finetune.batch_size=7"),
    ("finetune", DAVIS, "finetune.augment=false"),
    ("finetune", DAVIS, "finetune.fixed_lr=0.7"),
    ("finetune", DAVIS, "finetune.online.every=7"),
    ("finetune", DAVIS, "finetune.online.steps=7"),
    ("finetune", DAVIS, "finetune.online.batch_size=7"),
    ("finetune", DAVIS, "finetune.online.reset=current"),
    ("finetune", DAVIS, "finetune.online.frames=latest"),
    ("seed", DAVIS, "seed=7"),
    ("data", DAVIS, "dataset.test._target_=own.davis"),
    ("data", DAVIS, "dataset.test.year=2016"),
    ("data", DAVIS, "dataset.test.split=test-dev"),
    ("data", DAVIS, "dataset.test.sequences=[dog]"),
    ("data", DAVIS, "dataset.test.short_side=70"),
    ("data", DAVIS, "dataset.resolution=1080p"),
    ("data", DAVIS, "dataset.short_side=70"),
    ("data", OWN, "dataset.annotated=[x]"),
)
LOCATIONS = (
    (DAVIS, "dataset.root=b"),
    (OWN, "dataset.images=b"),
    (OWN, "dataset.masks=b.png"),
    (DAVIS, "finetune.feature_batch_size=7"),
)


@pytest.mark.parametrize(("part", "before", "change"), PARTS)
def test_a_changed_setting_makes_other_results(tmp_path, part, before, change):
    given, changed = (config(*settings, f"results={tmp_path}") for settings in (before, (*before, change)))
    open_results(given, None, overwrite=False)
    open_results(given, None, overwrite=False)
    with pytest.raises(UserError, match=rf"{part}\b.* there and .* here"):
        open_results(changed, None, overwrite=False)


def test_another_checkpoint_or_version_makes_other_results(tmp_path, monkeypatch):
    given = config(*DAVIS, f"results={tmp_path}")
    open_results(given, "1", overwrite=False)
    with pytest.raises(UserError, match="checkpoint is '1' there and '2' here"):
        open_results(given, "2", overwrite=False)
    monkeypatch.setattr(module, "versions", lambda: {"eosvos": "7"})
    with pytest.raises(UserError, match=r"eosvos is .* there and '7' here"):
        open_results(given, "1", overwrite=False)


def test_every_part_has_a_row():
    rows = {part for part, *_ in PARTS}
    assert rows | {"checkpoint", "eosvos"} == manifest(config(*DAVIS), None).keys()


@pytest.mark.parametrize(("before", "change"), LOCATIONS)
def test_where_data_lie_is_no_part(before, change):
    assert manifest(config(*before), None) == manifest(config(*before, change), None)


@pytest.mark.parametrize("key", ["segmenter.weights", "backbone.weights"])
def test_a_file_of_weights_counts_by_its_content(tmp_path, key):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    nets = ("dataset=davis2017", "dataset.root=a")
    made = [config(*nets, f"{key}={tmp_path / name}") for name in "abc"]
    first, same, other = (manifest(given, None) for given in made)
    assert first == same != other
    # A checkpoint brings the weights; the file need not be there any more.
    assert manifest(made[0], "1") == manifest(made[2], "1")
