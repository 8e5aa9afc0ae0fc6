"""Runs of any settings, made once."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from helpers import compose
from settings_table import BASES, CONTAINERS, SAVED, TINY
from small_videos import davis, youtube_vos
from torchvision.models import get_model
from whole_runs import Run, changed

from eosvos.sweep import prepare
from eosvos.training.train import train


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The `Run` of a base, made once, or of a change of it; DATA stands for a folder of small data sets."""
    data = tmp_path_factory.mktemp("settings")
    davis(data / "davis", 0)
    davis(data / "davis-other", 40)
    youtube_vos(data / "youtube", 0)
    youtube_vos(data / "youtube-other", 40)
    (data / "others").mkdir()
    (data / "others" / "manifest.json").write_text('{"seed": 77, "tables": []}')
    torch.save(get_model("resnet18", weights=None).state_dict(), data / "resnet18.pth")
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), data / "mobilenet.pth")
    saved = compose(*f"{TINY} {BASES['synthetic']} {SAVED}".split(), output=data / "saved")
    torch.save(train(*prepare(saved)).learner.segmenter.state_dict(), data / "detector.pth")
    shutil.copy(data / "saved" / "checkpoints" / "last.ckpt", data / "saved.ckpt")
    made: dict[str, Run] = {}

    def run(base: str, change: str = "") -> Run:
        base, change = (text.replace("DATA", str(data)) for text in (base, change))
        if base not in made:
            made[base] = Run(compose(*base.split(), output=data / "run"))
        if change.partition("=")[0] in CONTAINERS:
            return Run(compose(*base.split(), *change.split(), output=data / "run"))
        return Run(changed(made[base].cfg, change)) if change else made[base]

    return run
