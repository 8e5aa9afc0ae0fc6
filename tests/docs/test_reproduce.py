"""Commands of docs/reproduce.md: all are composed as they stand there, and a chain of them is run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from helpers import ROOT, prepared
from small_videos import davis, stills, voc2012, youtube_vos

from eosvos.errors import UserError
from eosvos.evaluation.evaluate import evaluate
from eosvos.meta.checkpoint import load_checkpoint
from eosvos.training.train import train

PAGE = (ROOT / "docs/reproduce.md").read_text()
COMMANDS = {
    re.search(r"(?:run\.dir=runs|results=results)/(\S+)", command)[1]: command
    for command in re.findall(r"^    uv run (.*)$", PAGE, flags=re.MULTILINE)
}
EVERYWHERE = (
    "trainer.accelerator=cpu",
    "trainer.num_workers=0",
    "trainer.enable_progress_bar=false",
    "logger=csv",
)
# ResNet-50 with its pyramid and its heads, on small images.
NETWORK = (
    *("segmenter.weights=none", "backbone.weights=none", "backbone.fpn_channels=32", "segmenter.min_size=64"),
    *("segmenter.rpn_proposals_train=20", "segmenter.rpn_proposals_test=20", "segmenter.prior_proposals=20"),
    *("segmenter.roi_samples=16", "segmenter.box_features=64", "segmenter.mask_channels=32"),
)
TRAINING = (
    "parent.batch_size=1",
    "meta.batch_size=1",
    "meta.inner_steps=2",
    "val_every=2",
    "final_eval.selection_videos=0",
)
FEW = {
    "e_osvos_voc2012": ("dataset.youtube_vos.held_out=1", "dataset.davis2017.val.sequences=[fox]"),
    "e_osvos": ("dataset.youtube_vos.held_out=1",),
    "parent_youtube_vos": ("dataset.held_out=1",),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with all data of the page, in their official layouts."""
    root = tmp_path_factory.mktemp("data")
    for make, name in (
        (davis, "DAVIS"),
        (youtube_vos, "YTVOS"),
        (stills, "IMAGES"),
        (voc2012, "VOCdevkit/VOC2012"),
    ):
        make(root / name, 40)
    video = "JPEGImages/w0", "JPEGImages/w1"
    for name in video:
        (root / "YTVOS/valid_all_frames" / name).mkdir(parents=True)
        for frame in (root / "YTVOS/valid" / name).iterdir():
            (root / "YTVOS/valid_all_frames" / name / frame.name).write_bytes(frame.read_bytes())
    return root


def arguments(name):
    """The entry of a command, its run's folder, and its other overrides."""
    script, *given = shlex.split(COMMANDS[name])
    output = [one.removeprefix("hydra.run.dir=") for one in given if one.startswith("hydra.run.dir=")]
    rest = [one for one in given if not one.startswith("hydra.run.dir=")]
    return script.removesuffix(".py"), *(output or [f"runs/{name}"]), rest


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_composes_and_finds_its_data(data, tmp_path, monkeypatch, name):
    monkeypatch.chdir(data)
    entry, output, given = arguments(name)
    for checkpoint in (
        Path(one.removeprefix("checkpoint=")) for one in given if one.startswith("checkpoint=")
    ):
        # One of these commands has left it.
        assert checkpoint.parts[1] in COMMANDS
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.touch()
    config, videos = prepared(*given, *FEW.get(name, ()), entry=entry, output=tmp_path / output)
    assert videos.test or name in ("parent_images", "parent_voc2012")
    assert config.segmenter["_target_"].endswith("MaskRCNN")
    assert (config.meta.batch_size, config.meta.inner_steps) == (4, 5)


def test_transfer_without_a_checkpoint_is_refused(data, monkeypatch):
    monkeypatch.chdir(data)
    given = [one for one in arguments("e_osvos_davis2016")[2] if not one.startswith("checkpoint=")]
    with pytest.raises(UserError, match=r"checkpoint=META_TRAINED\.ckpt: there is no such file"):
        prepared(*given)


@pytest.mark.slow
def test_a_chain_of_commands_runs_with_the_real_network(data, tmp_path, monkeypatch):
    """Parent training, meta-training from it, transfer, and evaluation, two steps each."""
    monkeypatch.chdir(tmp_path)
    for name in ("DAVIS", "YTVOS", "VOCdevkit"):
        Path(name).symlink_to(data / name)

    def run(name, *short):
        entry, output, given = arguments(name)
        short = (*short, *FEW.get(name, ()), *EVERYWHERE, "finetune.batch_size=1")
        return (train if entry == "train" else evaluate)(
            *prepared(*given, *short, entry=entry, output=output)
        )

    run("parent_voc2012", *NETWORK, *TRAINING, "parent.steps=2")
    small = (*TRAINING, "iterations=2", "finetune.steps=1")
    run("e_osvos_voc2012", *small)
    Path("runs/e_osvos").symlink_to("e_osvos_voc2012")
    run("e_osvos_davis2016", *small, "dataset.val.sequences=[fox]", "dataset.test.sequences=[fox]")
    [row] = run("davis2016-50-ona", "finetune.steps=2", "finetune.online.every=1", "finetune.online.steps=2")
    assert 0 <= row.figures()["J"] <= 1
    assert len(list(Path("results/davis2016-50-ona").rglob("*.png"))) > 4

    before, after = (
        load_checkpoint(f"runs/{name}/checkpoints/last.ckpt").learner
        for name in ("e_osvos", "e_osvos_davis2016")
    )
    assert (
        sum(value.numel() for name, value in before.named_parameters() if "backbone.body" in name)
        > 23_000_000
    )
    moved = {
        name
        for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    assert moved
    assert all("roi_heads" in name for name in moved)
    # Gigabytes, which pytest would keep.
    shutil.rmtree("runs")
