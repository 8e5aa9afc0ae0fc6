"""Runs of any settings, made once."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from helpers import changed, compose
from settings_table import BASES, CONTAINERS, SAVED, TINY
from small_videos import coco, davis, split, stills, videos, voc2012, youtube_vos
from torchvision.models import get_model
from whole_runs import Run

from eosvos.sweep.checks import prepare
from eosvos.training.train import train


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """The `Run` of a base, made once, or of a change of it; DATA stands for a folder of small data sets."""
    data = tmp_path_factory.mktemp("settings")
    davis(data / "davis", 0)
    davis(data / "davis-other", 40)
    youtube_vos(data / "youtube", 0)
    youtube_vos(data / "youtube-other", 40)
    for make, name in ((stills, "stills"), (voc2012, "voc"), (coco, "coco"), (videos, "videos")):
        make(data / name, 0)
        make(data / f"{name}-other", 40)
    for names in (
        ("cat", "dog", "fox"),
        ("v0", "v1", "v2"),
        ("cats/p0", "dogs/p1", "cats/p2"),
        ("p0", "p1", "p2"),
    ):
        split(data / f"{names[0].replace('/', '-')}.json", names)
    (data / "others").mkdir()
    (data / "others" / "manifest.json").write_text('{"seed": 77, "tables": []}')
    torch.save(get_model("resnet18", weights=None).state_dict(), data / "resnet18.pth")
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), data / "mobilenet.pth")
    saved = compose(*f"{TINY} {BASES['Synthetic']} {SAVED}".split(), output=data / "saved")
    torch.save(train(*prepare(saved)).learner.segmenter.state_dict(), data / "detector.pth")
    shutil.copy(data / "saved" / "checkpoints" / "last.ckpt", data / "saved.ckpt")
    deeplab = Run(compose(*f"{TINY} {BASES['Synthetic']} {BASES['DeepLabV3']} seed=1".split()))
    torch.save(deeplab.network.state_dict(), data / "deeplab.pth")
    made: dict[str, Run] = {}

    def run(base: str, change: str = "") -> Run:
        base, change = (text.replace("DATA", str(data)) for text in (base, change))
        if base not in made:
            made[base] = Run(compose(*base.split(), output=data / "run"))
        if change.partition("=")[0] in CONTAINERS:
            return Run(compose(*base.split(), *change.split(), output=data / "run"))
        return Run(changed(made[base].cfg, *change.split())) if change else made[base]

    return run
