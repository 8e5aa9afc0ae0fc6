"""The README's way to segment one's own video works as it stands there, in Python and as a command."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, SMALL, config
from PIL import Image

from eosvos.evaluation.evaluate import evaluate
from eosvos.training.train import train

README, CHECKPOINTS = ((ROOT / page).read_text() for page in ("README.md", "docs/checkpoints.md"))


@pytest.fixture
def own_video(tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint, and with frames and a mask as the README says."""
    monkeypatch.chdir(tmp_path)
    train(config(*SMALL, "iterations=1", "val_every=1", "meta.batch_size=1"))
    Path("run/checkpoints/last.ckpt").rename("FILE")
    Path("frames").mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 2
    Image.fromarray(mask).save("mask.png")
    for t in range(3):
        Image.fromarray(np.full((40, 60, 3), 90 + t, np.uint8)).save(f"frames/{t:05d}.jpg")
    return tmp_path


def test_own_video(own_video):
    names: dict[str, object] = {
        "frames": np.zeros((2, 40, 60, 3), np.uint8),
        "mask": np.eye(40, 60, dtype=int),
    }
    for block in re.findall(r"```python\n(.*?)```", README + CHECKPOINTS, flags=re.DOTALL):
        # The weights that come with eosvos segment at 400 pixels, which takes long.
        exec(block.replace('"small"', '"FILE"'), names)
    assert names["labels"].shape == (40, 60)
    (arguments,) = re.findall(r"uv run evaluate\.py (.* dataset=folder .*)", README)
    short = ("finetune=quick", "trainer=cpu", "logger=csv")
    arguments = arguments.replace("checkpoint=small", "checkpoint=FILE")
    evaluate(config(*short, *arguments.split(), entry="evaluate", output="log"))
    for masks in ("out", "out/frames"):
        first, *others = (np.array(Image.open(f"{masks}/{t:05d}.png")) for t in range(3))
        assert first[20, 30] == 2
        assert first[5, 5] == 0
        assert all(set(np.unique(labels)) <= {0, 2} for labels in others)
