"""Training for so many minutes, by a clock that goes on by one in each step."""

import signal
from itertools import pairwise
from types import SimpleNamespace

import helpers
import pytest
import torch
from helpers import LIGHT, SMALL
from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import timer
from pytorch_lightning.strategies import DDPStrategy
from ranks import of_two_processes
from test_train import interrupting

from eosvos.errors import Interrupted
from eosvos.meta.checkpoint import load_checkpoint, read_checkpoint
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.training.callbacks import TimeLimit
from eosvos.training.train import train


@pytest.fixture
def clock(monkeypatch):
    """What the time limit goes by; a step of either stage takes a minute."""
    clock = SimpleNamespace(now=500.0)
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for module in (MetaModule, ParentModule):
        step = module.training_step

        def training_step(self, tasks, batch_idx, step=step):
            clock.now += 60
            return step(self, tasks, batch_idx)

        monkeypatch.setattr(module, "training_step", training_step)
    return clock


def of(minutes, folder, *overrides):
    length = ("iterations=100", "val_every=100", f"minutes={minutes}", LIGHT)
    return helpers.config(*SMALL, *length, *overrides, output=folder)


def done(folder, name="last"):
    return read_checkpoint(folder / f"checkpoints/{name}.ckpt")[0]["iteration"]


def test_each_stage_has_its_share_and_the_last_iteration_is_validated(clock, tmp_path):
    train(of(6, tmp_path, "parent.steps=100"))
    assert (done(tmp_path, "parent-last"), done(tmp_path), done(tmp_path, "best")) == (3, 3, 3)
    assert [path.name for path in (tmp_path / "validation").iterdir()] == ["000003"]


def test_iterations_may_end_it_before(clock, tmp_path):
    train(of(6, tmp_path, "iterations=2"))
    assert done(tmp_path) == 2


@pytest.mark.parametrize("stage", [MetaModule, ParentModule])
def test_learning_rates_fall_by_the_time_that_is_spent(clock, tmp_path, monkeypatch, stage):
    rates, step = [], stage.training_step

    def training_step(self, tasks, batch_idx):
        rates.append(self.optimizers().param_groups[0]["lr"])
        # The second step takes three minutes.
        clock.now += 120 * (self.iteration == 1)
        return step(self, tasks, batch_idx)

    monkeypatch.setattr(stage, "training_step", training_step)
    train(of(5, tmp_path, *(("parent.steps=100", "iterations=0") if stage is ParentModule else ())))
    first, second, third = rates
    # The second step's rate is from before it, 1 of 5 minutes; the third's from when the second began.
    assert first == second or second > 0.99 * first
    low = 0.01 if stage is ParentModule else 0.05
    after = low + (1 - low) * 0.5 * (1 + torch.cos(torch.tensor(torch.pi / 5)).item())
    assert third / first == pytest.approx(after)
    assert all(late <= early for early, late in pairwise(rates))


def test_a_resumed_run_counts_what_was_spent(clock, tmp_path, monkeypatch):
    whole = train(of(4, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        interrupting(patch, 1, signal.SIGTERM)
        with pytest.raises(Interrupted, match="resume=true"):
            train(of(4, tmp_path / "half"))
    clock.now += 10_000
    last = tmp_path / "half/checkpoints/last.ckpt"
    rest = train(of(4, tmp_path / "rest", f"checkpoint={last}", "resume=true"))
    assert (done(tmp_path / "half"), done(tmp_path / "rest")) == (2, 4)
    for one, other in zip(whole.learner.meta_parameters(), rest.learner.meta_parameters(), strict=True):
        assert torch.equal(one, other)


def test_time_that_is_over_trains_no_more_and_more_of_it_does(clock, tmp_path):
    train(of(2, tmp_path / "run"))
    resumed = (f"checkpoint={tmp_path / 'run/checkpoints/last.ckpt'}", "resume=true")
    again = train(of(2, tmp_path / "again", *resumed))
    last = load_checkpoint(tmp_path / "run/checkpoints/last.ckpt").learner
    assert all(map(torch.equal, again.learner.meta_parameters(), last.meta_parameters()))
    train(of(3, tmp_path / "more", *resumed))
    assert done(tmp_path / "more") == 3


def ending(_):
    """After how many iterations each process ends, and what shares it knew; the second's clock goes wrong."""
    clock = SimpleNamespace(now=0.0)
    timer.time = SimpleNamespace(monotonic=lambda: clock.now)
    trainer = SimpleNamespace(strategy=DDPStrategy(), should_stop=False)
    limit, module, shares = TimeLimit(3), LightningModule(), []
    limit.on_train_start(trainer, module)
    while not trainer.should_stop:
        limit.on_train_batch_start(trainer, module, None, 0)
        shares.append(module.time_spent)
        clock.now += 60 if torch.distributed.get_rank() == 0 else 7
        limit.on_train_batch_end(trainer, module)
    return shares


def test_two_processes_end_at_the_same_iteration(tmp_path):
    one, other = of_two_processes(ending, tmp_path)
    assert one == other == pytest.approx([0, 1 / 3, 2 / 3])
