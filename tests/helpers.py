"""Configurations as the commands compose them: the one place where tests do that."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eosvos.config.checks import check
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.config.training import Config
from eosvos.data.splits import Videos
from eosvos.sweep import prepare

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


def compose(*overrides: str, entry: str = "train", output: str | Path = "run", **options: Any) -> DictConfig:
    """What Hydra composes for train.py or evaluate.py, without a command line; `output` is the run's folder.

    options: those of Hydra's compose.
    """
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra_compose(entry, overrides=[f"output={output}", *overrides], **options)


def config(*overrides: str, entry: str = "train", output: str | Path = "run") -> Config:
    """The same, checked."""
    return check(compose(*overrides, entry=entry, output=output))


def prepared(*overrides: str, entry: str = "train", output: str | Path = "run") -> tuple[Config, Videos]:
    """The same with the videos listed, as the commands prepare it: what `train` and `evaluate` take."""
    return prepare(compose(*overrides, entry=entry, output=output), training=entry == "train")


@contextmanager
def command_line(*overrides: str, entry: str = "train") -> Iterator[DictConfig]:
    """The configuration of a command line, which Hydra knows to be one within the block."""
    HydraConfig.instance().set_config(compose(*overrides, entry=entry, return_hydra_config=True))
    try:
        yield compose(*overrides, entry=entry)
    finally:
        HydraConfig.instance().cfg = None
