"""Configurations as the commands compose them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from eosvos.run.help import CONF
from eosvos.run.schema import register
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import DictConfig

# The smallest run that has every stage: seconds.
SMALL = (
    "dataset.size=[32,48]",
    "dataset.num_frames=3",
    "dataset.val.count=1",
    "dataset.test.count=2",
    "backbone.width=8",
    "backbone.fpn_channels=16",
    "meta.batch=2",
    "meta.inner_steps=2",
    "finetune.steps=1",
    "report.tuning_videos=0",
    "report.rates=[0.01,0.03,0.1]",
    "trainer.progress=false",
    "logger=csv",
)


@pytest.fixture
def compose(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose an entry config with overrides, into tmp_path/run."""
    register()

    def composed(*overrides: str, entry: str = "train", output: str = "run") -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose(entry, overrides=[f"output={tmp_path / output}", *overrides])

    return composed


@pytest.fixture
def small() -> tuple[str, ...]:
    """Overrides for a run of seconds."""
    return SMALL
