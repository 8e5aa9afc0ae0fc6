"""Whole runs in this process: stages, checkpoints, interruption, evaluation."""

import csv
import json
import os
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from eosvos.run.checkpoint import load_checkpoint, read_checkpoint
from eosvos.run.checks import prepare
from eosvos.run.evaluate import evaluate
from eosvos.run.help import CONF
from eosvos.run.schema import register
from eosvos.run.scoring import Validation
from eosvos.run.train import train, with_checkpoint
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from eosvos.errors import Interrupted, UserError
from eosvos.inference.predictor import Predictor
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule

METRICS = {
    "meta/query_loss",
    "meta/support_loss_first",
    "meta/support_loss_last",
    "meta/seconds",
    "rates/mean",
    "val/J",
    "val/F",
    "val/J&F",
}


HOLD_OUT = "report.hold_out=true report.tuning_videos=2"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a parent stage and two meta iterations: (folder, result)."""
    register()
    folder = tmp_path_factory.mktemp("run")
    stages = ["iterations=2", "val_every=1", "parent.steps=2", "report.tuning_videos=1"]
    overrides = [f"output={folder}", *small_overrides(), *stages]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra_compose("train", overrides=overrides)
    return folder, train(cfg)


@contextmanager
def command_line(*overrides):
    """The configuration of a command line, which Hydra knows to be one."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra_compose("train", overrides=list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    try:
        yield cfg
    finally:
        HydraConfig.instance().cfg = None


def small_overrides():
    import runpy

    return runpy.run_path(str(Path(__file__).with_name("conftest.py")))["SMALL"]


def logged(folder):
    """The lines of a run's CSV log, each as {name: value} without empty ones."""
    with open(folder / "csv" / "metrics.csv") as lines:
        return [{name: value for name, value in line.items() if value} for line in csv.DictReader(lines)]


def test_files(run):
    folder, _ = run
    there = {path.name for path in folder.rglob("*") if path.is_file()}
    expected = {"config.yaml", "run.json", "metrics.csv", "best.ckpt", "last.ckpt", "parent-last.ckpt"}
    assert expected | {"report.md", "report.csv", "report.json"} <= there
    # The masks of the learned network, in the layout of evaluate.py.
    assert len(list((folder / "results").glob("synthetic-*/*.png"))) == 2 * 3
    assert len(list((folder / "results").glob("*.overlay.png"))) == 2
    assert (folder / "results" / "global_results-test.csv").exists()
    assert json.loads((folder / "run.json").read_text())["versions"]["learn2learn"]


def test_metric_names(run):
    folder, _ = run
    names = {name for line in logged(folder) for name in line}
    assert names >= METRICS
    assert {name for name in names if name.startswith("rates/")} > {"rates/mean"}


def test_report_rows(run):
    _, result = run
    names = [name.split(", rate")[0] for name in result.metrics]
    start = "before (parent training)"
    assert names == [start, f"{start}, ten times the steps", "after", "after with a hand-set rate"]
    for figures in result.metrics.values():
        assert figures["videos"] == 2
        assert 0 <= figures["J"] <= 1


def test_before_is_where_meta_training_started(run):
    folder, result = run
    parent = load_checkpoint(folder / "checkpoints" / "parent-last.ckpt")
    assert parent.stage == "parent"
    pairs = zip(result.before.weights(), parent.learner.weights(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    changed = zip(result.before.meta_parameters(), result.learner.meta_parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in changed)


def test_checkpoint_gives_the_learner_back(run):
    folder, result = run
    loaded = load_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert (loaded.stage, loaded.iteration) == ("meta", 2)
    for name, value in result.learner.state_dict().items():
        assert torch.equal(loaded.learner.state_dict()[name], value), name
    assert loaded.finetune.steps == 1


def test_evaluation_and_training_give_the_same_numbers(run, compose, small, tmp_path):
    folder, result = run
    checkpoint = f"checkpoint={folder / 'checkpoints' / 'last.ckpt'}"
    # The network is the checkpoint's, whatever a dataset brings as default.
    cfg = compose(*small, checkpoint, "segmenter=semantic", "backbone.width=4", entry="evaluate")
    row = evaluate(cfg)
    assert row.figures()["J"] == result.metrics["after"]["J"]
    results = tmp_path / "run" / "results"
    names = {path.relative_to(results).as_posix() for path in results.rglob("*")}
    video = row.records[0].sequence
    assert {"manifest.json", "global_results-test.csv", "per-sequence_results-test.csv"} <= names
    assert {f"{video}.record.json", f"{video}.overlay.png"} <= names
    assert sum(name.startswith(f"{video}/") for name in names) == 3


@pytest.mark.parametrize("other", ["segmenter=semantic", "backbone.width=4", "meta.rates.level=param"])
def test_another_network_than_the_checkpoints_is_refused(run, small, other):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    with command_line(*small, checkpoint) as cfg:
        assert with_checkpoint(cfg)[1] is not None
    with command_line(*small, checkpoint, other) as cfg, pytest.raises(UserError) as caught:
        with_checkpoint(cfg)
    assert other.partition("=")[0] in str(caught.value)


def test_what_is_no_weight_can_be_set_beside_a_checkpoint(run, small):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    with command_line(
        *small, checkpoint, "segmenter.select=score", "meta.order=heads", "meta.rates.clip=7"
    ) as cfg:
        merged, loaded = with_checkpoint(cfg)
    assert loaded.learner.segmenter.select == merged.segmenter.select == "score"
    assert loaded.model["order"] == merged.meta.order == "heads"
    assert loaded.learner.rate_config.clip == merged.meta.rates.clip == 7
    with pytest.raises(UserError, match=r"segmenter\.nothing"):
        load_checkpoint(run[0] / "checkpoints" / "last.ckpt", changes={"segmenter.nothing": 1})


def test_results_know_their_videos(run, compose, small):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    evaluate(compose(*small, checkpoint, entry="evaluate"))
    evaluate(compose(*small, checkpoint, "finetune.lookahead=1", entry="evaluate"))
    with pytest.raises(UserError, match=r"data\.seed is 0 there and 1 here"):
        evaluate(compose(*small, checkpoint, "dataset.test.seed=1", entry="evaluate"))


def test_interrupted_evaluation_goes_on(run, compose, small, monkeypatch):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    cfg = compose(*small, checkpoint, entry="evaluate")
    segmented = []
    segment = Predictor.segment

    def counted(self, sequence):
        segmented.append(sequence.name)
        if len(segmented) == 2:
            raise KeyboardInterrupt
        yield from segment(self, sequence)

    monkeypatch.setattr(Predictor, "segment", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(cfg)
    row = evaluate(cfg)
    first, second = (video.name for video in prepare(cfg, training=False).test)
    assert segmented == [first, second, second]
    assert [record.sequence for record in row.records] == [first, second]
    with pytest.raises(UserError, match="overwrite=true"):
        evaluate(compose(*small, checkpoint, "finetune.steps=2", entry="evaluate"))


def test_evaluation_without_a_checkpoint(compose, small):
    assert len(evaluate(compose(*small, "segmenter=semantic", entry="evaluate")).records) == 2


def timeless(folder):
    """What a run has logged, but the seconds."""
    return [
        {name: value for name, value in line.items() if name != "meta/seconds"} for line in logged(folder)
    ]


def interrupting(monkeypatch, iteration, number, module=MetaModule):
    """Send this process a signal in the middle of an iteration."""
    step = module.training_step

    def training_step(self, tasks, batch_idx):
        if self.iteration == iteration:
            os.kill(os.getpid(), number)
        return step(self, tasks, batch_idx)

    monkeypatch.setattr(module, "training_step", training_step)


@pytest.mark.parametrize(("number", "done"), [(signal.SIGINT, 2), (signal.SIGTERM, 3)])
def test_resumed_equals_uninterrupted(compose, small, tmp_path, monkeypatch, number, done):
    length = ("iterations=4", "val_every=2")
    whole = train(compose(*small, *length, output="whole"))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupting(patch, done - 1, number)
        with pytest.raises(Interrupted, match="resume=true") as caught:
            train(compose(*small, *length, output="half"))
    assert caught.value.number == number
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["iteration"] == done
    resumed = train(compose(*small, *length, f"checkpoint={last}", "resume=true", output="rest"))
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(resumed.learner.state_dict()[name], value), name
    both = [read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("whole", "rest")]
    one, other = (content["optimizer_states"][0]["state"] for content in both)
    assert all(torch.equal(one[i]["exp_avg"], other[i]["exp_avg"]) for i in one)
    lines = [timeless(tmp_path / name) for name in ("whole", "half", "rest")]
    assert lines[0] == lines[1] + lines[2]
    figures = [[row["J"] for row in result.metrics.values()] for result in (whole, resumed)]
    assert figures[0] == figures[1]


def test_the_best_checkpoint_survives_an_interruption(compose, small, tmp_path, monkeypatch):
    scores = iter((0.9, 0.1))
    monkeypatch.setattr(Validation, "__call__", lambda *_: [(next(scores),) * 2])
    length = ("iterations=2", "val_every=1")
    with monkeypatch.context() as patch:
        interrupting(patch, 0, signal.SIGTERM)
        with pytest.raises(Interrupted, match="resume=true"):
            train(compose(*small, *length, output="half"))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    train(compose(*small, *length, f"checkpoint={last}", "resume=true", output="rest"))
    best, last = (read_checkpoint(tmp_path / "rest" / "checkpoints" / f"{n}.ckpt") for n in ("best", "last"))
    assert (best["iteration"], last["iteration"]) == (1, 2)


def test_signal_in_the_last_iteration(compose, small, tmp_path, monkeypatch):
    interrupting(monkeypatch, 0, signal.SIGTERM)
    with pytest.raises(Interrupted, match="resume=true"):
        train(compose(*small, "iterations=1"))
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["iteration"] == 1


@pytest.mark.parametrize(
    "other",
    ["seed=5", "meta.batch=4", "meta.outer.weights.lr=1e-7", "dataset.num_frames=4", HOLD_OUT],
)
def test_a_run_is_resumed_with_its_own_settings(run, compose, small, other):
    last = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    with pytest.raises(UserError, match="other settings") as caught:
        train(compose(*small, "iterations=3", last, "resume=true", *other.split()))
    assert other.rpartition(".")[2].partition("=")[0] in str(caught.value)


def test_resuming_into_the_same_folder_keeps_the_log(compose, small, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupting(patch, 0, signal.SIGTERM)
        with pytest.raises(Interrupted, match="resume=true"):
            train(compose(*small, "iterations=2"))
    last = f"checkpoint={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}"
    train(compose(*small, "iterations=2", last, "resume=true"))
    # The run is finished and has its results; more iterations replace them.
    train(compose(*small, "iterations=3", last, "resume=true"))
    logs = [tmp_path / "run" / "csv" / f"metrics{part}.csv" for part in ("-1", "-2", "")]
    trained = [
        [line["step"] for line in csv.DictReader(log.read_text().splitlines()) if line["meta/query_loss"]]
        for log in logs
    ]
    assert trained == [["0"], ["1"], ["2"]]


def test_a_finished_run_can_be_resumed_for_more(compose, small, tmp_path):
    constant = ("meta.outer.cosine_to=null", "val_every=1")
    whole = train(compose(*small, *constant, "iterations=2", output="whole"))
    train(compose(*small, *constant, "iterations=1", output="half"))
    best = f"checkpoint={tmp_path / 'half' / 'checkpoints' / 'best.ckpt'}"
    more = train(compose(*small, *constant, "iterations=2", best, "resume=true", output="rest"))
    pairs = zip(whole.learner.meta_parameters(), more.learner.meta_parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [line["step"] for line in timeless(tmp_path / "rest")] == ["1", "2"]


def test_parent_training_is_resumed_too(compose, small, tmp_path, monkeypatch):
    stages = ("parent.steps=3", "iterations=1")
    whole = train(compose(*small, *stages, output="whole"))
    with monkeypatch.context() as patch:
        interrupting(patch, 1, signal.SIGTERM, ParentModule)
        with pytest.raises(Interrupted, match="resume=true"):
            train(compose(*small, *stages, output="half"))
    last = tmp_path / "half" / "checkpoints" / "parent-last.ckpt"
    assert read_checkpoint(last)["iteration"] == 2
    rest = train(compose(*small, *stages, f"checkpoint={last}", "resume=true", output="rest"))
    for one, other in ((whole.before, rest.before), (whole.learner, rest.learner)):
        pairs = zip(one.meta_parameters(), other.meta_parameters(), strict=True)
        assert all(torch.equal(mine, its) for mine, its in pairs)


def test_error_in_the_middle_leaves_a_checkpoint(compose, small, tmp_path, monkeypatch):
    step = MetaModule.training_step

    def training_step(self, tasks, batch_idx):
        if self.iteration == 1:
            raise UserError("frame 00003.jpg is broken")
        return step(self, tasks, batch_idx)

    monkeypatch.setattr(MetaModule, "training_step", training_step)
    with pytest.raises(UserError, match=r"00003\.jpg"):
        train(compose(*small, "iterations=3"))
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["iteration"] == 1


def test_error_in_a_validation_leaves_a_checkpoint_and_is_no_result(compose, small, tmp_path, monkeypatch):
    segment = Predictor.segment

    def broken(self, sequence):
        raise UserError("frame 00003.jpg is broken")
        yield

    monkeypatch.setattr(Predictor, "segment", broken)
    with pytest.raises(UserError, match=r"00003\.jpg is broken.*resume=true"):
        train(compose(*small, "iterations=3", "val_every=2"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["iteration"] == 2
    assert "val/J" not in logged(tmp_path / "run")[-1]
    monkeypatch.setattr(Predictor, "segment", segment)
    resumed = (f"checkpoint={last}", "resume=true")
    train(compose(*small, "iterations=3", "val_every=2", *resumed, output="rest"))
    assert read_checkpoint(tmp_path / "rest" / "checkpoints" / "last.ckpt")["iteration"] == 3


def test_start_from_a_checkpoint(run, compose, small, tmp_path):
    last = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    result = train(compose(*small, last, "iterations=1", "meta.outer.rates.lr=0"))
    pairs = zip(run[1].learner.rates(), result.learner.rates(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    moved = zip(run[1].learner.weights(), result.learner.weights(), strict=True)
    assert any(not torch.equal(one, other) for one, other in moved)


def test_resume_without_the_starting_point_has_no_before(run, compose, small, tmp_path):
    last = tmp_path / "alone.ckpt"
    shutil.copy(run[0] / "checkpoints" / "last.ckpt", last)
    result = train(compose(*small, "iterations=2", f"checkpoint={last}", "resume=true"))
    assert result.before is None
    assert list(result.metrics) == ["after"]


def test_parent_training_alone(compose, small):
    stages = ("parent.steps=1", "iterations=0", "report.tuning_videos=1")
    result = train(compose(*small, *stages, "segmenter=semantic"))
    names = ["before (parent training)", "before (parent training), ten times the steps"]
    assert [name.split(", rate")[0] for name in result.metrics] == names


def test_no_gpu_is_said(compose, small, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="trainer=cpu"):
        train(compose(*small, "trainer=gpu"))
