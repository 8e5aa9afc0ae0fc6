"""Configurations as the commands compose them, and other things that several tests share."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from eosvos.compat.hydra import without_hydra
from eosvos.config.checks import check
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.config.training import Config
from eosvos.data.splits import Splits
from eosvos.sweep.checks import prepare

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "dataset.size=[32,48]",
    "dataset.num_frames=3",
    "dataset.val.num_videos=1",
    "dataset.test.num_videos=2",
    "backbone.width=8",
    "backbone.fpn_channels=16",
    "meta.batch_size=2",
    "meta.inner_steps=2",
    "finetune.steps=1",
    "final_eval.selection_videos=0",
    "final_eval.lr_grid=[0.01,0.03,0.1]",
    "trainer.enable_progress_bar=false",
    "logger=csv",
)
"""Overrides of the smallest run that has every stage: seconds."""
LIGHT = "segmenter=light_deeplab"
"""The network that takes half the time of Mask R-CNN, and draws no samples."""

KINDS = (
    LIGHT,
    "dataset.query_frames=2",
    "dataset.object_groups=0.5",
    "dataset.single_object_videos=augment",
    "dataset.no_label=0.2",
    "dataset.label_inversion=0.3",
    "dataset.crop=[24,40]",
    "dataset.augment.copy_paste=0.3",
    "meta.inner_steps=4",
    "meta.order=second_order",
    "meta.truncate_every=2",
    "meta.early_stopping.patience=1",
    "meta.early_stopping.min_delta=0.02",
    "meta.outer.freeze=[backbone]",
    "meta.outer.max_grad_value=0.1",
)
"""Overrides that make tasks of every kind, inner loops of any length, and a part of the outer step."""


def compose(*overrides: str, entry: str = "train", output: str | Path = "run", **options: Any) -> DictConfig:
    """What Hydra composes for train.py or evaluate.py, without a command line; `output` is the run's folder.

    options: those of Hydra's compose.
    """
    # The weights that come with eosvos are larger than most tests need.
    untrained = ["checkpoint=null"] if entry == "evaluate" else []
    return copy.deepcopy(_composed(entry, f"output={output}", *untrained, *overrides, **options))


_register = cache(register)
"""Once in a process: it takes as long as a sixth of what Hydra does."""


@cache
def _composed(entry: str, *overrides: str, **options: Any) -> DictConfig:
    _register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose(entry, overrides=list(overrides), **options)


def changed(cfg: DictConfig, *overrides: str) -> DictConfig:
    """A copy with other values, set as Hydra sets them."""
    copied = copy.deepcopy(cfg)
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        OmegaConf.update(copied, override.key_or_group, override.value(), force_add=override.is_add())
    return copied


def given(*overrides: str, entry: str = "train", output: str | Path = "run") -> DictConfig:
    """What `compose` gives, in a tenth of the time: the options are composed, once, and values set in a copy.

    What cannot be set is left to Hydra, whose errors these are.
    """
    values = [one for one in overrides if _sets_a_value(one)]
    options = [one for one in overrides if one not in values]
    try:
        return changed(compose(*options, entry=entry), f"output={output}", *values)
    except (HydraException, OmegaConfBaseException):
        return compose(*overrides, entry=entry, output=output)


def _sets_a_value(override: str) -> bool:
    """Whether it is KEY=VALUE, and the key neither a group nor Hydra's own."""
    key = override.partition("=")[0]
    return key.replace(".", "").isidentifier() and not key.startswith("hydra.") and not (CONF / key).is_dir()


def config(*overrides: str, entry: str = "train", output: str | Path = "run") -> Config:
    """The same, checked."""
    return check(given(*overrides, entry=entry, output=output), training=entry == "train")


def prepared(*overrides: str, entry: str = "train", output: str | Path = "run") -> tuple[Config, Splits]:
    """The same with the videos listed, as the commands prepare it: what `train` and `evaluate` take."""
    return prepare(given(*overrides, entry=entry, output=output), training=entry == "train")


@contextmanager
def command_line(*overrides: str, entry: str = "train") -> Iterator[DictConfig]:
    """The configuration of a command line, which Hydra knows to be one within the block."""
    whole = compose(*overrides, entry=entry, return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    try:
        yield without_hydra(whole)
    finally:
        HydraConfig.instance().cfg = None


def validated(score: float) -> SimpleNamespace:
    """What a validation makes of a sequence of one object, with `score` as its J and F."""
    return SimpleNamespace(j_and_f=[(score, score)], strip=None, record=SimpleNamespace(scores=()))
