"""What docs/extending.md shows works as it stands there, from a package that is not eosvos."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import command
from helpers import LIGHT, ROOT, config, prepared
from PIL import Image

from eosvos.errors import UserError
from eosvos.evaluation.evaluate import evaluate
from eosvos.meta.checkpoint import load_checkpoint
from eosvos.meta.model import build_segmenter

PAGE = (ROOT / "docs/extending.md").read_text()


@pytest.fixture
def documented(tmp_path, monkeypatch) -> Path:
    """A folder with the files that the page shows, a package among them, and a video."""
    blocks = re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 7
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    video = tmp_path / "videos/cat"
    video.mkdir(parents=True)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:40] = 3
    for t in range(3):
        Image.fromarray(np.full((40, 60, 3), 80 * t, np.uint8)).save(video / f"frame_{t:05d}.jpg")
        if t < 2:
            Image.fromarray(mask).save(video / f"mask_{t:05d}.png")
    for name in [name for name in sys.modules if name.partition(".")[0] == "mypackage"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_dataset(documented):
    mine = ("dataset=mine", f"dataset.root={documented / 'videos'}", "trainer=cpu")
    search = f"hydra.searchpath=[file://{documented}/conf]"
    _, videos = prepared(*mine, search, entry="evaluate", output=documented / "run")
    (sequence,) = videos.test[""]
    assert (sequence.name, sequence.size, sequence.num_frames) == ("cat", (40, 60), 3)
    assert sequence.object_ids == (3,)
    assert sequence.first_frame(3) == 0
    assert sequence.image(2).shape == (3, 40, 60)
    assert sequence.mask(2) is None


@pytest.mark.parametrize("segmenter", ["segmenter=tiny_mask_rcnn", LIGHT, "segmenter=plain"])
def test_the_backbone_and_the_segmenter(documented, segmenter):
    settings = config("backbone=plain", segmenter, f"hydra.searchpath=[file://{documented}/conf]")
    network = build_segmenter(settings.segmenter, settings.backbone)
    masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
    masks[:, 16:48, 24:72] = 1
    losses = network.losses(torch.rand(1, 3, 64, 96), masks)
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.slow
def test_the_commands(documented, monkeypatch):
    """The page's commands train a network that eosvos does not know, and evaluate it, with one iteration.

    Training is the real command; evaluation, which takes the same options, is of this process.
    """
    monkeypatch.setenv("PYTHONPATH", ".")
    (documented / "VIDEOS").symlink_to(documented / "videos")
    short = ("trainer=cpu", "logger=csv", "finetune=quick")
    trained = ("iterations=1", "meta.batch_size=1", "meta.inner_steps=1", "final_eval.selection_videos=0")
    trained += ("trainer.enable_progress_bar=false",)
    lines = re.findall(r"^    python EOSVOS/(train|evaluate)\.py (.*)$", PAGE, flags=re.MULTILINE)
    train, tested, more = (arguments.split() for _, arguments in lines)
    assert [name for name, _ in lines] == ["train", "evaluate", "train"]
    done = command(documented, "train.py", *train, *more[2:], *short, *trained, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "meta-learned" in done.stdout
    assert "lr-AdamW" in (documented / "run/csv/metrics.csv").read_text()
    (documented / "run/checkpoints/last.ckpt").rename(documented / "FILE")
    monkeypatch.chdir(documented)
    assert tested[:2] == ["--config-dir", "conf"]
    search = f"hydra.searchpath=[file://{documented}/conf]"
    evaluate(config(*tested[2:], *short, search, "overwrite=true", entry="evaluate"))
    assert np.array(Image.open(documented / "run/results/cat/00000.png"))[20, 30] == 3

    with pytest.raises(UserError, match=r"asks for 'mypackage\..*trusted=\[PACKAGE\]"):
        load_checkpoint(documented / "FILE")
    loaded = load_checkpoint(documented / "FILE", trusted=["mypackage"])
    assert type(loaded.learner.segmenter).__name__ == "PlainSegmenter"
