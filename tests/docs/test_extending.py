"""What docs/extending.md shows works as it stands there."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import config, initialize_config_dir
from PIL import Image

from eosvos.config.build import build
from eosvos.config.schema import register
from eosvos.sweep import prepare

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def documented(tmp_path, monkeypatch) -> Path:
    """Write the blocks of the page to the files that they name; returns the folder of the configs."""
    blocks = re.findall(
        r"```\w+\n# (\S+)\n(.*?)```", (ROOT / "docs/extending.md").read_text(), flags=re.DOTALL
    )
    assert len(blocks) == 4
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if path.suffix == ".py":
            package = importlib.import_module(".".join(Path(name).parent.parts))
            monkeypatch.setattr(package, "__path__", [*package.__path__, str(path.parent)])
            monkeypatch.delitem(sys.modules, ".".join(Path(name).with_suffix("").parts), raising=False)
    return tmp_path / "conf"


def composed(configs: Path, *overrides: str):
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        folders = [f"hydra.searchpath=[file://{configs}]", f"output={configs.parent / 'run'}"]
        return config("train", [*folders, *overrides])


def test_the_dataset(documented, tmp_path):
    videos = tmp_path / "videos/cat"
    videos.mkdir(parents=True)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:20] = 3
    Image.fromarray(mask).save(videos / "mask.png")
    for t in range(3):
        Image.fromarray(np.full((20, 30, 3), 80 * t, np.uint8)).save(videos / f"frame_{t:05d}.jpg")
    cfg = composed(documented, "dataset=mine", f"dataset.root={tmp_path / 'videos'}", "trainer=cpu")
    (sequence,) = prepare(cfg, training=False).test
    assert (sequence.name, sequence.size, sequence.num_frames) == ("cat", (20, 30), 3)
    assert sequence.object_ids == (3,)
    assert sequence.first_frame(3) == 0
    assert sequence.image(2).shape == (3, 20, 30)
    assert sequence.mask(1) is None


@pytest.mark.parametrize("segmenter", ["tiny_mask_rcnn", "semantic"])
def test_the_backbone(documented, segmenter):
    cfg = composed(documented, "backbone=plain", f"segmenter={segmenter}")
    network = build(cfg.segmenter, backbone=build(cfg.backbone))
    masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
    masks[:, 16:48, 24:72] = 1
    losses = network.losses(torch.rand(1, 3, 64, 96), masks)
    assert all(loss.isfinite() for loss in losses.values())
