"""What a run leaves behind when it is killed, stopped, or finds the disk full; and what it says."""

import csv
import os
import signal
from contextlib import suppress

import pytest
import torch
from commands import PATIENCE, started, wait_for
from helpers import LIGHT, SMALL, command_line, validated

from eosvos.compat.lightning import CsvLog
from eosvos.config.build import build
from eosvos.errors import UserError
from eosvos.evaluation.scoring import Validation
from eosvos.meta.checkpoint import read_checkpoint
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.training.resume import RunInCheckpoint
from eosvos.training.train import train
from eosvos.writing import disk_errors


def logged(log):
    """The lines of a CSV log but the seconds, by meta iteration."""
    with open(log) as lines:
        rows = [{k: v for k, v in row.items() if v and k != "meta/seconds"} for row in csv.DictReader(lines)]
    return {int(row["step"]): row for row in rows if "meta/query_loss" in row}


def fill(disk):
    with suppress(OSError), open(disk / "filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def log_much(log):
    for step in range(10000):
        log.log_metrics({"a": 1.0}, step=step)


def files(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_run_goes_on_exactly_and_its_logs_have_no_gap(config, tmp_path):
    length = (*SMALL, LIGHT, "iterations=40", "val_every=40")
    # A checkpoint between any two iterations.
    often = ("trainer.devices=1", "trainer.save_minutes=1e-6", "hydra.run.dir=killed")
    process = started(tmp_path, "train.py", *length, *often)
    last = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    wait_for(last, process)
    process.kill()
    process.communicate()
    done = read_checkpoint(last)[0]["iteration"]
    assert 0 <= done < 40
    resumed = train(config(*length, f"checkpoint={last}", "resume=true", output="rest"))
    whole = train(config(*length, output="whole"))
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(resumed.learner.state_dict()[name], value), name
    logs = [tmp_path / name / "csv" / "metrics.csv" for name in ("killed", "rest", "whole")]
    first = logged(logs[0]) if done else {}
    assert set(first) >= set(range(done))
    assert first | logged(logs[1]) == logged(logs[2])


def test_the_latest_checkpoint_is_that_of_the_last_validation(config, tmp_path, monkeypatch):
    scores, iterations = iter((0.9, 0.1, 0.1)), []
    monkeypatch.setattr(Validation, "__call__", lambda *_: validated(next(scores)))
    step = MetaModule.training_step

    def training_step(self, tasks, batch_idx):
        if self.iteration == 2:
            for name in ("best", "last"):
                path = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
                iterations.append(read_checkpoint(path)[0]["iteration"])
        return step(self, tasks, batch_idx)

    monkeypatch.setattr(MetaModule, "training_step", training_step)
    length = ("iterations=3", "val_every=1", "trainer.save_minutes=null")
    train(config(*SMALL, LIGHT, *length))
    assert iterations == [1, 2]


def test_full_disk_leaves_the_checkpoints_before(config, tmp_path, small_disk):
    train(config(*SMALL, LIGHT, "iterations=1"))
    sizes = [path.stat().st_size for path in (tmp_path / "run" / "checkpoints").iterdir()]
    # There is room for all of them, but not for one more that is to take the place of another.
    disk = small_disk(sum(sizes) + max(sizes) // 2)
    with pytest.raises(UserError, match=r"\.ckpt cannot be written \(No space left.*make room"):
        train(config(*SMALL, LIGHT, "iterations=3", "val_every=1", f"output={disk}/run"))
    there = disk / "run" / "checkpoints"
    assert files(there) == {"best.ckpt", "last.ckpt", "initialisation.pt"}
    for name in ("best", "last"):
        assert read_checkpoint(there / f"{name}.ckpt")[0]["iteration"] == 1


@pytest.mark.slow
def test_full_disk_ends_all_processes_with_a_sentence(small_disk):
    disk = small_disk("1500k")
    length = ("iterations=3", "val_every=1", "trainer.devices=2", "hydra.run.dir=run")
    process = started(disk, "train.py", *SMALL, LIGHT, *length)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert err.splitlines() == [
        f"error: {disk}/run/checkpoints/best.ckpt cannot be written (No space left on device): "
        "make room on its disk; what was there before is still whole"
    ]
    assert files(disk / "run" / "checkpoints") == {"initialisation.pt"}


def test_full_disk_leaves_the_log_before(small_disk):
    disk = small_disk("64k")
    log = CsvLog(str(disk), "csv", "")
    log.log_metrics({"a": 1.0}, step=0)
    log.save()
    fill(disk)
    # A column that comes later changes every line.
    log.log_metrics({"b": 2.0}, step=1)
    with pytest.raises(UserError, match=r"metrics\.csv cannot be written \(No space"):
        log.save()
    assert (disk / "csv" / "metrics.csv").read_text().split() == ["a,step", "1.0,0"]
    (disk / "filler").unlink()
    log.log_metrics({"b": 3.0}, step=2)
    log.save()
    assert (disk / "csv" / "metrics.csv").read_text().split() == ["a,b,step", "1.0,,0", ",2.0,1", ",3.0,2"]


def test_full_disk_is_said_of_other_logs_too(config, small_disk):
    disk = small_disk("1500k")
    log = build(config(*SMALL, "logger=tensorboard", f"output={disk}").logger["tensorboard"])
    log.log_metrics({"a": 1.0}, step=0)
    fill(disk)
    with pytest.raises(UserError, match=r"the logs cannot be written \(No space"), disk_errors("the logs"):
        log_much(log)


def test_error_after_a_step_leaves_a_checkpoint_with_that_step(config, tmp_path, monkeypatch):
    length = (*SMALL, LIGHT, "iterations=3", "val_every=3")
    whole = train(config(*length, output="whole"))
    log_metrics = CsvLog.log_metrics

    def failing(self, metrics, step):
        if step == 1:
            raise RuntimeError("the log is gone")
        log_metrics(self, metrics, step)

    with monkeypatch.context() as patch:
        patch.setattr(CsvLog, "log_metrics", failing)
        with pytest.raises(RuntimeError, match="the log is gone"):
            train(config(*length, output="half"))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    rest = train(config(*length, f"checkpoint={last}", "resume=true", output="rest"))
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(rest.learner.state_dict()[name], value), name


def test_error_before_training_leaves_the_checkpoint_as_it_is(config, tmp_path, monkeypatch):
    train(config(*SMALL, LIGHT, "iterations=1"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def failing(*_):
        raise KeyError("broken")

    monkeypatch.setattr(RunInCheckpoint, "on_load_checkpoint", failing)
    with pytest.raises(KeyError, match="broken"):
        train(config(*SMALL, LIGHT, "iterations=2", f"checkpoint={last}", "resume=true"))
    assert last.read_bytes() == before


def test_training_that_never_moves_ends_with_a_sentence(config, tmp_path):
    settings = (
        "meta.inner_lr.init=1e30",
        "meta.inner_lr.max=null",
        "meta.inner_lr.max_grad_norm=null",
        "val_every=1",
    )
    with pytest.raises(UserError, match=r"no task had a finite loss in 3 meta iterations"):
        train(config(*SMALL, LIGHT, *settings, "iterations=3"))
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()
    assert not (tmp_path / "run" / "report.json").exists()


def test_left_out_tasks_are_summed_up_at_the_end(config, caplog, monkeypatch):
    sum_over_tasks = MetaModule.sum_over_tasks

    def broken(self, tasks):
        for task in tasks:
            if task.iteration == 1:
                task.support_images.fill_(float("nan"))
        return sum_over_tasks(self, tasks)

    monkeypatch.setattr(MetaModule, "sum_over_tasks", broken)
    train(config(*SMALL, LIGHT, "iterations=3"))
    (said,) = [message for message in caplog.messages if "tasks were left out" in message]
    assert said.startswith("2 tasks were left out")
    assert said.count("synthetic-") == 2


def test_parent_training_never_takes_a_step_that_is_not_finite(config, tmp_path, monkeypatch):
    def broken(self):
        if self.iteration == 1:
            next(iter(self.learner.weights())).grad.fill_(float("nan"))

    monkeypatch.setattr(ParentModule, "on_after_backward", broken)
    with pytest.raises(UserError, match=r"parent step 1: the gradient is not finite; lower parent\.opt"):
        train(config(*SMALL, LIGHT, "parent.steps=2", "iterations=0"))
    content, _ = read_checkpoint(tmp_path / "run" / "checkpoints" / "parent-last.ckpt")
    assert content["iteration"] == 1
    assert all(value.isfinite().all() for value in content["state_dict"].values())


@pytest.mark.parametrize(("stage", "key"), [("meta", "iterations"), ("parent", "parent.steps")])
def test_a_finished_run_has_nothing_left_to_resume(config, tmp_path, stage, key):
    other = {"meta": "parent.steps=0", "parent": "iterations=0"}[stage]
    settings = (*SMALL, LIGHT, other)
    train(config(*settings, f"{key}=1"))
    last = tmp_path / "run" / "checkpoints" / {"meta": "last.ckpt", "parent": "parent-last.ckpt"}[stage]
    resumed = (f"checkpoint={last}", "resume=true")
    with pytest.raises(UserError, match=f"1 of {key}=1.*nothing is left to do; set {key} to more"):
        train(config(*settings, f"{key}=1", *resumed))
    train(config(*settings, f"{key}=2", *resumed))
    with pytest.raises(UserError, match=f"has done 2 of {key}=1: set {key} to more"):
        train(config(*settings, f"{key}=1", *resumed))


def test_a_report_that_failed_is_made_up_for(config, tmp_path, monkeypatch):
    settings = (*SMALL, LIGHT, "iterations=1")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"

    def failing(*_):
        raise UserError("a frame is broken")

    with monkeypatch.context() as patch:
        patch.setattr("eosvos.training.train.FinalEvaluation.rows", failing)
        with pytest.raises(UserError, match="a frame is broken") as caught:
            train(config(*settings))
    assert caught.value.__notes__ == [f"go on with the same command and checkpoint={last} resume=true"]
    result = train(config(*settings, f"checkpoint={last}", "resume=true"))
    assert list(result.metrics) == ["meta-learned"]


def test_a_job_of_a_sweep_goes_on_with_the_sweep(config, tmp_path, monkeypatch):
    def failing(*_):
        raise UserError("a frame is broken")

    monkeypatch.setattr("eosvos.training.train.FinalEvaluation.rows", failing)
    sweep = ("hydra.mode=MULTIRUN", "hydra.sweep.dir=runs/steps", f"hydra.runtime.output_dir={tmp_path}")
    with command_line(*sweep), pytest.raises(UserError) as caught:
        train(config(*SMALL, LIGHT, "iterations=1"))
    assert caught.value.__notes__ == ["go on with the same command and hydra.sweep.dir=runs/steps"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "end", "ready", "length"),
    [
        (signal.SIGTERM, os.kill, "checkpoints/last.ckpt", "iterations=100000"),
        (signal.SIGINT, os.killpg, "results/manifest.json", "iterations=1"),
    ],
    ids=["training", "reporting"],
)
def test_signals_end_two_processes_with_their_status(tmp_path, number, end, ready, length):
    report = ("dataset.test.num_videos=40", "finetune.steps=20")
    often = ("val_every=100000", "trainer.save_minutes=1e-6", "trainer.devices=2")
    settings = (*SMALL, LIGHT, *report, *often, length, "hydra.run.dir=run")
    process = started(tmp_path, "train.py", *settings, group=end is os.killpg)
    wait_for(tmp_path / "run" / ready, process)
    end(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert err.splitlines() == [
        f"error: stopped by {number.name}; go on with the same command and checkpoint={last} resume=true"
    ]
    assert read_checkpoint(last)[0]["eosvos"]["stage"] == "meta"


def test_a_signal_while_importing_is_quiet(tmp_path):
    process = started(tmp_path, "evaluate.py", *SMALL, "checkpoint=null", "hydra.run.dir=run", python=("-u",))
    wait_for(tmp_path / "run" / "evaluate.log", process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.splitlines() == ["error: stopped by SIGINT"]


@pytest.mark.slow
def test_a_signal_ends_both_processes_of_an_evaluation(tmp_path):
    videos = ("dataset.test.num_videos=40", "finetune.steps=20", "trainer.devices=2", "hydra.run.dir=run")
    process = started(tmp_path, "evaluate.py", *SMALL, LIGHT, "checkpoint=null", *videos)
    wait_for(tmp_path / "run" / "results" / "manifest.json", process)
    process.terminate()
    # The other process holds the pipes, too: this ends when both have.
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines() == ["error: stopped by SIGTERM"]
