"""What is left of an earlier run where another one begins in its folder, and is interrupted."""

import shutil

import pytest
from helpers import LIGHT, SMALL, prepared
from omegaconf import OmegaConf

from eosvos.errors import UserError
from eosvos.training.train import train

RUN = (*SMALL, LIGHT, "iterations=1", "parent.steps=1", "val_visualisations=1", "logger=[csv,tensorboard]")
REPORTS = {"report.json", "report.csv", "report.md"}
RECORD = {"config.yaml", "run.json"}
CHECKPOINTS = {f"checkpoints/{name}" for name in ("best.json", "best.ckpt", "last.ckpt", "parent-last.ckpt")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that is done."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(*prepared(*RUN, output=folder))
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, with notes of the user's own."""
    folder = shutil.copytree(finished, tmp_path / "run")
    for name in ("checkpoints/best of all.ckpt", "csv/notes.csv", "validation/notes.md"):
        (folder / name).write_text("mine")
    assert files(folder) >= REPORTS | RECORD | CHECKPOINTS
    return folder


def files(folder):
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {name for name in found if not name.startswith("results/")}


def interrupted(monkeypatch, *overrides, output):
    """Begin a run, and be interrupted before its first step."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("eosvos.training.trainer.pl.Trainer.fit", stop)
        with pytest.raises(KeyboardInterrupt):
            train(*prepared(*RUN, *overrides, output=output))


def test_a_run_that_writes_over_another_keeps_nothing_of_it(run, monkeypatch):
    interrupted(monkeypatch, "overwrite=true", "seed=7", output=run)
    mine = {"checkpoints/best of all.ckpt", "csv/notes.csv", "validation/notes.md"}
    assert {name for name in files(run) if "tfevents" not in name} - {
        "tensorboard/hparams.yaml"
    } == RECORD | mine
    assert len(list((run / "tensorboard").glob("*tfevents*"))) == 1
    assert OmegaConf.load(run / "config.yaml").seed == 7


def test_the_checkpoint_that_it_starts_from_stays(run, monkeypatch):
    last = run / "checkpoints/last.ckpt"
    interrupted(monkeypatch, "overwrite=true", f"checkpoint={last}", output=run)
    assert files(run) & CHECKPOINTS == {"checkpoints/last.ckpt"}


def test_a_run_that_goes_on_loses_the_report_alone(run, monkeypatch):
    before = files(run)
    resumed = ("iterations=2", f"checkpoint={run / 'checkpoints/last.ckpt'}", "resume=true")
    interrupted(monkeypatch, *resumed, output=run)
    renamed = {"csv/metrics.csv"}
    assert before - files(run) == REPORTS | renamed


def test_nothing_is_lost_to_a_run_that_cannot_be(run, tmp_path):
    before = files(run)
    weights = tmp_path / "weights.pth"
    weights.write_text("none")
    other = [part for part in RUN if not part.startswith("backbone.")]
    mistakes = (
        ["meta.outer.freeze=[head]"],
        ["backbone=resnet18", f"backbone.weights={weights}"],
        ["parent.steps=1", "+parent.optimizer.speed=3"],
        ["+callbacks.own._target_=nowhere.Own"],
    )
    for mistake in mistakes:
        with pytest.raises(UserError, match=r"has no head|weights\.pth cannot be read|speed|nowhere"):
            train(*prepared(*other, *mistake, "seed=7", "overwrite=true", output=run))
    assert files(run) == before
    assert OmegaConf.load(run / "config.yaml").seed == 0
