"""Every declared setting: what it refuses, before work."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from helpers import command_line, compose, config, given
from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from eosvos.config.checks import check, check_network, only_for_training
from eosvos.config.components import DECLARED
from eosvos.config.data import Tasks
from eosvos.config.setting import Settings
from eosvos.config.training import Config
from eosvos.errors import UserError

# Values of settings without a default.
NEEDED = {"video": "x", "root": "x", "images": "x", "masks": "x", "annotations": "x", "name": "x"}
NOT_FINITE = (float("nan"), float("inf"), -float("inf"))
FREE = {"Config.logger", "Config.callbacks", "Config.trusted", "Outer.freeze"}
"""Settings that may be empty."""


def groups(declared: type[BaseModel]) -> Iterator[type[Settings]]:
    """A declaration, and those of the groups in it."""
    yield declared
    for field in declared.model_fields.values():
        for group in (field.annotation, *get_args(field.annotation)):
            if isinstance(group, type) and issubclass(group, Settings):
                yield from groups(group)


ALL = {one.__name__: one for whole in (Config, Tasks, *DECLARED.values()) for one in groups(whole)}


def whole_values(declared: type[Settings]) -> dict[str, Any]:
    """Values that a declaration takes."""
    if declared is ALL["Config"]:
        return config().model_dump()
    if declared is ALL["Dataset"]:
        return config().dataset.model_dump()
    known = {"name": "resnet50"} if "Literal" in str(declared.model_fields.get("name")) else NEEDED
    given = {name: known[name] for name in declared.model_fields if name in known}
    return dict(declared(**given))


def kinds(annotation: Any) -> set[Any]:
    """The types that a setting may have."""
    inner = set(get_args(annotation))
    return {annotation, *inner, *(kind for one in inner for kind in kinds(one))}


@pytest.mark.parametrize("name", ALL)
def test_no_setting_takes_what_is_no_value(name):
    declared = ALL[name]
    values = whole_values(declared)
    declared(**values)
    for setting, field in declared.model_fields.items():
        never: list[Any] = [object(), (1,), *NOT_FINITE]
        if f"{name}.{setting}" not in FREE:
            never += [[], [None], [[]], [float("nan")], ["  "]]
        never += ["", "  ", b"x"]
        if type(None) not in kinds(field.annotation):
            never.append(None)
        # Every number has a least value.
        if {int, float} & kinds(field.annotation):
            never += ["1", -1, [True], True]
        for value in never:
            with pytest.raises(ValidationError) as refused:
                declared(**{**values, setting: value})
            assert setting in str(refused.value), (setting, value)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.size=[96]", "dataset.size=[96] must have at least 2 items, not 1"),
        ("dataset.size=[96,128,3]", "dataset.size=[96, 128, 3] must have at most 2 items, not 3"),
        ("dataset.size=[96,16]", "dataset.size=[96, 16]: 16 must be greater than or equal to 32"),
        ("final_eval.lr_grid=[0.1]", "final_eval.lr_grid=[0.1] must have at least 2 items, not 1"),
        ("final_eval.lr_grid=[0,1]", "final_eval.lr_grid=[0, 1]: 0 must be greater than 0"),
        ("meta.step_weights=[1,-1]", "-1 must be greater than or equal to 0"),
        ("segmenter.anchor_sizes=[a,b,c]", "a must be a valid number"),
        ("segmenter.anchor_sizes=[null,1,1]", "None must be a valid number"),
        ("segmenter.anchor_sizes=[[],1,1]", "segmenter.anchor_sizes=[[], 1, 1]: []"),
        ("segmenter.anchor_sizes=[[[1]],1,1]", ": [1] must be a valid number"),
        ("segmenter.anchor_sizes=[{a:1},1,1]", "must be a valid number"),
        ("segmenter.anchor_sizes=[[1,-2]]", "segmenter.anchor_sizes=[[1, -2]]: -2 must be greater than 0"),
        ("trainer.compile=maybe", "trainer.compile=maybe must be true or false or 'auto'"),
        ("segmenter.anchor_ratios=[0]", "0 must be greater than 0"),
        ("segmenter.anchor_ratios=[nan]", "nan must be a finite number"),
        ('segmenter.weights="  "', "segmenter.weights: '  ' is no text"),
        ("~dataset", "dataset has no videos: write dataset=OPTION, one of coco, "),
    ],
)
def test_wrong_values(override, said):
    with pytest.raises(UserError) as refused:
        check(given(override))
    assert said in str(refused.value)


def test_a_list_for_each_level_is_fine():
    given = config("segmenter.anchor_sizes=[[1,2],[3,4],[5,6.5]]", "logger.csv.version=")
    assert given.segmenter["anchor_sizes"] == [[1, 2], [3, 4], [5, 6.5]]


def test_home_is_expanded_wherever_a_location_is_declared(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a.ckpt", "w.pth", "s.pth"):
        (tmp_path / name).touch()
    data = ("dataset=folder", 'dataset.images="~/clip"', 'dataset.masks="~/mask.png"')
    files = ('checkpoint="~/a.ckpt"', 'results="~/out"', 'backbone.weights="~/w.pth"')
    cfg = compose(*data, *files, "backbone=resnet18", 'segmenter.weights="~/s.pth"')
    cfg.output = "~/run"
    found = OmegaConf.create(check(cfg).model_dump())
    keys = ("dataset.train.images", "dataset.test.masks", "checkpoint", "results", "output")
    for key in (*keys, "backbone.weights", "segmenter.weights"):
        assert OmegaConf.select(found, key).startswith(f"{tmp_path}/"), key


def test_the_network_of_a_checkpoint_is_asked_once_it_is_read(tmp_path):
    """Not that of the configuration, which the checkpoint's replaces."""
    (tmp_path / "a.ckpt").touch()
    rules = ("dataset.no_label=0.1", "meta.order=second_order", "meta.outer.freeze=[pooling]")
    for rule in rules:
        with pytest.raises(UserError, match=r"Mask R-CNN|no pooling"):
            config(rule)
        asked = config(rule, f"checkpoint={tmp_path}/a.ckpt")
        with pytest.raises(UserError, match=r"Mask R-CNN|no pooling"):
            check_network(asked)
        light = config("segmenter=light_deeplab", "segmenter.loss=dice_bce")
        check_network(asked.model_copy(update={"segmenter": light.segmenter}))


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (("meta.outer.inner_lr.lr=0", "meta.outer.inner_lr.weight_decay=1"), "meta.outer.inner_lr.lr=0.0"),
        (("finetune.online.steps=3",), "finetune.online.steps has no effect with finetune.online.every=null"),
        (("finetune.augment=false", "finetune.distinct_copies=3"), "no effect with finetune.augment=false"),
        (
            ("parent.steps=0", "parent.optimizer.lr=0.1"),
            "parent.optimizer.lr has no effect with parent.steps=0",
        ),
        (
            ("meta.early_stopping.min_delta=0.1",),
            "meta.early_stopping.min_delta has no effect with meta.early_stopping.patience=null",
        ),
        (
            ("meta.multi_step_loss=false", "meta.step_weights=[1,1,1,1,1]"),
            "meta.step_weights has no effect with meta.multi_step_loss=false",
        ),
        (("iterations=0", "val_every=3"), "val_every has no effect with iterations=0: set iterations, or"),
        (
            ("segmenter=light_deeplab", "segmenter.prior=ignore", "segmenter.gate_margin=0.5"),
            "segmenter.gate_margin has no effect with segmenter.prior=ignore",
        ),
    ],
)
def test_a_setting_that_another_one_makes_idle_is_refused(keys, problem):
    with command_line(*keys) as cfg, pytest.raises(UserError, match=re.escape(problem)):
        check(cfg)


def test_defaults_and_presets_may_be_idle():
    for keys in (
        ("finetune=e_osvos_50_ona", "finetune.online.every=null"),
        ("finetune.online.every=5", "finetune.online.steps=3"),
        ("segmenter=light_deeplab", "segmenter.prior=gate", "segmenter.gate_margin=0.5"),
    ):
        with command_line(*keys) as cfg:
            check(cfg)


def test_evaluation_says_which_keys_only_training_reads():
    read = ("dataset.size=[32,48]", "meta.order=first_order", "meta.inner_lr.init=0.1", "trainer.devices=1")
    unread = ("meta.inner_steps=3", "parent.optimizer.lr=0.1", "logger=csv", "dataset.augment.flip=0")
    with command_line(*read, *unread, "parent.steps=1", entry="evaluate"):
        assert only_for_training() == [*(word.partition("=")[0] for word in unread), "parent.steps"]
