"""Configurations as the commands compose them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The `Run` of a base, made once, or of a change of it; DATA stands for a folder of small data sets."""
    import timm
    import torch
    from eosvos.run.train import train
    from settings_table import BASES, CONTAINERS, SAVED, TINY
    from small_videos import davis, youtube_vos
    from torchvision.models import get_model
    from whole_runs import Run, changed, composed

    register()
    data = tmp_path_factory.mktemp("settings")
    davis(data / "davis", 0)
    davis(data / "davis-other", 40)
    youtube_vos(data / "youtube", 0)
    youtube_vos(data / "youtube-other", 40)
    (data / "others").mkdir()
    (data / "others" / "manifest.json").write_text('{"seed": 77, "tables": []}')
    torch.save(get_model("resnet18", weights=None).state_dict(), data / "resnet18.pth")
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), data / "mobilenet.pth")
    saved = composed(data / "saved", f"{TINY} {BASES['synthetic']} {SAVED}")
    torch.save(train(saved).learner.segmenter.state_dict(), data / "detector.pth")
    shutil.copy(data / "saved" / "checkpoints" / "last.ckpt", data / "saved.ckpt")
    made: dict[str, Run] = {}

    def run(base: str, change: str = "") -> Run:
        base, change = (text.replace("DATA", str(data)) for text in (base, change))
        if base not in made:
            made[base] = Run(composed(data / "run", base))
        if change.partition("=")[0] in CONTAINERS:
            return Run(composed(data / "run", f"{base} {change}"))
        return Run(changed(made[base].cfg, change)) if change else made[base]

    return run
