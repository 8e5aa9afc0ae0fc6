"""What results are known by: one row for each part, and what is no part."""

import pytest
from eosvos.run import manifest as module
from eosvos.run.manifest import manifest, results_folder

from eosvos.errors import UserError

DAVIS = ("dataset=davis2017", "dataset.root=a", "segmenter=semantic", "backbone=tiny")
OWN = ("dataset=folder", "dataset.images=a", "dataset.masks=a.png", "segmenter=semantic", "backbone=tiny")

# The manifest's part, a command line, what is added to it.
PARTS = (
    ("model", DAVIS, "segmenter.channels=7"),
    ("model", DAVIS, "backbone.width=7"),
    ("model", DAVIS, "meta.rates.init=0.7"),
    ("model", DAVIS, "meta.order=full"),
    ("model", DAVIS, "meta.train_encoder=false"),
    ("finetune", DAVIS, "finetune.steps=7"),
    ("finetune", DAVIS, "finetune.batch=7"),
    ("finetune", DAVIS, "finetune.augment=false"),
    ("finetune", DAVIS, "finetune.rate=0.7"),
    ("finetune", DAVIS, "finetune.online.every=7"),
    ("finetune", DAVIS, "finetune.online.steps=7"),
    ("finetune", DAVIS, "finetune.online.frames=latest"),
    ("seed", DAVIS, "seed=7"),
    ("data", DAVIS, "dataset.test._target_=eosvos.data.davis.list_davis"),
    ("data", DAVIS, "dataset.test.year='2016'"),
    ("data", DAVIS, "dataset.test.split=test-dev"),
    ("data", DAVIS, "dataset.test.sequences=[dog]"),
    ("data", DAVIS, "dataset.test.short_side=70"),
    ("data", DAVIS, "dataset.resolution=1080p"),
    ("data", OWN, "dataset.annotated=[x]"),
)
LOCATIONS = (
    (DAVIS, "dataset.root=b"),
    (OWN, "dataset.images=b"),
    (OWN, "dataset.masks=b.png"),
    (DAVIS, "finetune.lookahead=7"),
)


@pytest.mark.parametrize(("part", "before", "change"), PARTS)
def test_a_changed_setting_makes_other_results(compose, tmp_path, part, before, change):
    cfg, changed = (compose(*settings, f"results={tmp_path}") for settings in (before, (*before, change)))
    results_folder(cfg, None, overwrite=False)
    results_folder(cfg, None, overwrite=False)
    with pytest.raises(UserError, match=rf"{part}\b.* there and .* here"):
        results_folder(changed, None, overwrite=False)


def test_another_checkpoint_or_version_makes_other_results(compose, tmp_path, monkeypatch):
    cfg = compose(*DAVIS, f"results={tmp_path}")
    results_folder(cfg, "1", overwrite=False)
    with pytest.raises(UserError, match="checkpoint is '1' there and '2' here"):
        results_folder(cfg, "2", overwrite=False)
    monkeypatch.setattr(module, "versions", lambda: {"eosvos": "7"})
    with pytest.raises(UserError, match=r"eosvos is .* there and '7' here"):
        results_folder(cfg, "1", overwrite=False)


def test_every_part_has_a_row(compose):
    rows = {part for part, *_ in PARTS}
    assert rows | {"checkpoint", "eosvos"} == manifest(compose(*DAVIS), None).keys()


@pytest.mark.parametrize(("before", "change"), LOCATIONS)
def test_where_data_lie_is_no_part(compose, before, change):
    assert manifest(compose(*before), None) == manifest(compose(*before, change), None)


@pytest.mark.parametrize("key", ["segmenter.weights", "backbone.weights"])
def test_a_file_of_weights_counts_by_its_content(compose, tmp_path, key):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(text)
    nets = ("dataset=davis2017", "dataset.root=a")
    made = [compose(*nets, f"{key}={tmp_path / name}") for name in "abc"]
    first, same, other = (manifest(cfg, None) for cfg in made)
    assert first == same != other
    # A checkpoint brings the weights; the file need not be there any more.
    assert manifest(made[0], "1") == manifest(made[2], "1")
