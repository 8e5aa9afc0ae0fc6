"""Whole runs in this process: stages, checkpoints, interruption, evaluation."""

import csv
import json
import os
import shutil
import signal

import helpers
import pytest
import torch
from helpers import KINDS, LIGHT, SMALL, command_line, validated

from eosvos.config.checks import check
from eosvos.data.splits import list_videos
from eosvos.errors import Interrupted, UserError
from eosvos.evaluation.evaluate import evaluate
from eosvos.evaluation.scoring import Validation
from eosvos.evaluation.start import check_lr_of_inner_lrs, finetune_for, with_checkpoint
from eosvos.inference.predictor import Predictor
from eosvos.meta.checkpoint import load_checkpoint, read_checkpoint
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.training.train import train

METRICS = {
    "meta/query_loss",
    "meta/support_loss_first",
    "meta/support_loss_last",
    "meta/seconds",
    "inner_lr/mean",
    "val/J",
    "val/F",
    "val/J&F",
}


EXCLUDED = "final_eval.exclude_from_training=true final_eval.selection_videos=2"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with a parent stage and two meta iterations: (folder, result)."""
    folder = tmp_path_factory.mktemp("run")
    stages = ["iterations=2", "val_every=1", "parent.steps=2", "final_eval.selection_videos=1"]
    return folder, train(helpers.config(*SMALL, *stages, output=folder))


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
    assert {name for name in names if name.startswith("inner_lr/")} > {"inner_lr/mean"}


def test_report_rows(run):
    _, result = run
    names = [name.rpartition(", fixed learning rate ")[0] or name for name in result.metrics]
    start = "initialisation (parent training)"
    assert names == [start, f"{start}, 10 steps", "meta-learned", "meta-learned"]
    assert [name.startswith("meta-learned, fixed learning rate") for name in result.metrics][2:] == [
        False,
        True,
    ]
    for figures in result.metrics.values():
        assert figures["videos"] == 2
        assert 0 <= figures["J"] <= 1


def test_the_initialisation_is_where_meta_training_started(run):
    folder, result = run
    parent = load_checkpoint(folder / "checkpoints" / "parent-last.ckpt")
    assert parent.stage == "parent"
    pairs = zip(result.initial.weights(), parent.learner.weights(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    changed = zip(result.initial.meta_parameters(), result.learner.meta_parameters(), strict=True)
    assert any(not torch.equal(one, other) for one, other in changed)


def test_checkpoint_gives_the_learner_back(run):
    folder, result = run
    loaded = load_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert (loaded.stage, loaded.iteration) == ("meta", 2)
    for name, value in result.learner.state_dict().items():
        assert torch.equal(loaded.learner.state_dict()[name], value), name
    assert loaded.finetune.steps == 1


def test_evaluation_and_training_give_the_same_numbers(run, config, tmp_path):
    folder, result = run
    checkpoint = f"checkpoint={folder / 'checkpoints' / 'last.ckpt'}"
    # The network is the checkpoint's, whatever a dataset brings as default.
    [row] = evaluate(config(*SMALL, checkpoint, LIGHT, "backbone.width=4", entry="evaluate"))
    assert row.figures()["J"] == result.metrics["meta-learned"]["J"]
    results = tmp_path / "run" / "results"
    names = {path.relative_to(results).as_posix() for path in results.rglob("*")}
    video = row.records[0].sequence
    assert {"manifest.json", "global_results-test.csv", "per-sequence_results-test.csv"} <= names
    assert {f"{video}.record.json", f"{video}.overlay.png"} <= names
    assert sum(name.startswith(f"{video}/") for name in names) == 3


@pytest.mark.parametrize("other", [LIGHT, "backbone.width=4", "meta.inner_lr.level=param"])
def test_another_network_than_the_checkpoints_is_refused(run, other):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    with command_line(*SMALL, checkpoint) as cfg:
        assert with_checkpoint(check(cfg))[1] is not None
    with command_line(*SMALL, checkpoint, other) as cfg, pytest.raises(UserError) as caught:
        with_checkpoint(check(cfg))
    assert other.partition("=")[0] in str(caught.value)


def test_evaluation_fine_tunes_as_the_checkpoint_was_validated_but_for_what_is_asked(run, config):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"

    def finetune(*overrides):
        with command_line("dataset=synthetic", checkpoint, *overrides, entry="evaluate") as cfg:
            checked = check(cfg)
            return finetune_for(checked, with_checkpoint(checked)[1])

    its = load_checkpoint(run[0] / "checkpoints" / "last.ckpt").finetune
    assert finetune() == its
    assert finetune("finetune.online.every=7", "finetune.short_side=null") == its.model_copy(
        update={"online": its.online.model_copy(update={"every": 7}), "short_side": None}
    )
    assert finetune("finetune=e_osvos_50").steps == 50
    experiment = "experiment=synthetic_light_deeplab"
    assert finetune(experiment) == config(experiment, entry="evaluate").finetune != its
    composed = config("dataset=synthetic", checkpoint, "finetune.steps=3", entry="evaluate")
    assert finetune_for(composed, load_checkpoint(composed.checkpoint)) == composed.finetune


def test_what_is_no_weight_can_be_set_beside_a_checkpoint(run):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    others = ("segmenter.select=score", "meta.order=second_order_heads", "meta.inner_lr.max_grad_norm=7")
    with command_line(*SMALL, checkpoint, *others) as cfg:
        merged, loaded = with_checkpoint(check(cfg))
    assert loaded.learner.segmenter.settings.select == merged.segmenter["select"] == "score"
    assert loaded.model.order == merged.meta.order == "second_order_heads"
    assert loaded.learner.inner_lr.max_grad_norm == merged.meta.inner_lr.max_grad_norm == 7
    with pytest.raises(UserError, match=r"segmenter\.nothing"):
        load_checkpoint(run[0] / "checkpoints" / "last.ckpt", changes={"segmenter.nothing": 1})


def test_what_an_experiment_has_otherwise_than_the_checkpoint_is_to_be_said(run, capsys):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"

    def start(*overrides):
        with command_line("dataset=synthetic", checkpoint, *overrides, entry="evaluate") as cfg:
            return with_checkpoint(check(cfg))[0]

    none = "experiment=ablations/proposals_none"
    with pytest.raises(
        UserError, match=r"proposals_none and checkpoint=\S+ have different values of .*proposals \(none"
    ):
        start(none)
    assert start(none, "segmenter.proposals=none").segmenter["proposals"] == "none"
    with pytest.raises(UserError, match="impossible for Mask R-CNN"):
        start("dataset.no_label=0.1")
    # Another kind of network has other settings: the checkpoint's is taken, which is said.
    start("experiment=synthetic_light_deeplab")
    assert "The network is that of checkpoint=" in capsys.readouterr().out


def test_an_outer_learning_rate_of_inner_ones_is_not_taken_for_their_logarithms(run):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"

    def start(*overrides):
        with command_line(*SMALL, checkpoint, *overrides) as cfg:
            asked = check(cfg)
            check_lr_of_inner_lrs(asked, with_checkpoint(asked)[0])

    start()
    with pytest.raises(
        UserError, match=r"meta\.outer\.inner_lr\.lr=1e-05 suits its inner learning rates: set .* 0\.03"
    ):
        start("meta=paper")
    start("meta=paper", "meta.outer.inner_lr.lr=0.03")


def test_results_know_their_videos(run, config):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    evaluate(config(*SMALL, checkpoint, entry="evaluate"))
    evaluate(config(*SMALL, checkpoint, "finetune.feature_batch_size=1", entry="evaluate"))
    with pytest.raises(UserError, match=r"data\.seed is 0 there and 1 here"):
        evaluate(config(*SMALL, checkpoint, "dataset.test.seed=1", entry="evaluate"))


def test_interrupted_evaluation_goes_on(run, config, monkeypatch):
    checkpoint = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    settings = config(*SMALL, checkpoint, entry="evaluate")
    segmented = []
    segment = Predictor.segment

    def counted(self, sequence, video=None):
        segmented.append(sequence.name)
        if len(segmented) == 2:
            raise KeyboardInterrupt
        yield from segment(self, sequence, video)

    monkeypatch.setattr(Predictor, "segment", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(settings)
    [row] = evaluate(settings)
    first, second = (video.name for video in list_videos(settings, training=False).test[""])
    assert segmented == [first, second, second]
    assert [record.sequence for record in row.records] == [first, second]
    with pytest.raises(UserError, match="overwrite=true"):
        evaluate(config(*SMALL, checkpoint, "finetune.steps=2", entry="evaluate"))


def test_evaluation_without_a_checkpoint(config):
    assert len(evaluate(config(*SMALL, LIGHT, entry="evaluate"))[0].records) == 2


def timeless(folder):
    """What a run has logged, but the seconds and the memory."""
    measured = ("/seconds", "/memory_gib")
    return [
        {name: value for name, value in line.items() if not name.endswith(measured)}
        for line in logged(folder)
    ]


def interrupting(monkeypatch, iteration, number, module=MetaModule):
    """Send this process a signal in the middle of an iteration."""
    step = module.training_step

    def training_step(self, tasks, batch_idx):
        if self.iteration == iteration:
            os.kill(os.getpid(), number)
        return step(self, tasks, batch_idx)

    monkeypatch.setattr(module, "training_step", training_step)


@pytest.mark.parametrize(("number", "done", "kinds"), [(signal.SIGINT, 2, ()), (signal.SIGTERM, 3, KINDS)])
def test_resumed_equals_uninterrupted(config, tmp_path, monkeypatch, number, done, kinds):
    length = ("iterations=4", "val_every=2", *kinds)
    whole = train(config(*SMALL, *length, output="whole"))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        interrupting(patch, done - 1, number)
        with pytest.raises(Interrupted, match="resume=true") as caught:
            train(config(*SMALL, *length, output="half"))
    assert caught.value.number == number
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)[0]["iteration"] == done
    resumed = train(config(*SMALL, *length, f"checkpoint={last}", "resume=true", output="rest"))
    for name, value in whole.learner.state_dict().items():
        assert torch.equal(resumed.learner.state_dict()[name], value), name
    both = [read_checkpoint(tmp_path / name / "checkpoints" / "last.ckpt")[0] for name in ("whole", "rest")]
    one, other = (content["optimizer_states"][0]["state"] for content in both)
    assert all(torch.equal(one[i]["exp_avg"], other[i]["exp_avg"]) for i in one)
    lines = [timeless(tmp_path / name) for name in ("whole", "half", "rest")]
    assert lines[0] == lines[1] + lines[2]
    figures = [[row["J"] for row in result.metrics.values()] for result in (whole, resumed)]
    assert figures[0] == figures[1]


def test_the_best_checkpoint_survives_an_interruption(config, tmp_path, monkeypatch):
    scores = iter((0.9, 0.1))
    monkeypatch.setattr(Validation, "__call__", lambda *_: validated(next(scores)))
    length = ("iterations=2", "val_every=1")
    with monkeypatch.context() as patch:
        interrupting(patch, 0, signal.SIGTERM)
        with pytest.raises(Interrupted, match="resume=true"):
            train(config(*SMALL, *length, output="half"))
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    train(config(*SMALL, *length, f"checkpoint={last}", "resume=true", output="rest"))
    best, last = (
        read_checkpoint(tmp_path / "rest" / "checkpoints" / f"{n}.ckpt")[0] for n in ("best", "last")
    )
    assert (best["iteration"], last["iteration"]) == (1, 2)


def test_signal_in_the_last_iteration(config, tmp_path, monkeypatch):
    interrupting(monkeypatch, 0, signal.SIGTERM)
    with pytest.raises(Interrupted, match="resume=true"):
        train(config(*SMALL, "iterations=1"))
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")[0]["iteration"] == 1


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("seed=5", "seed"),
        ("meta.batch_size=4", "batch_size"),
        ("meta.outer.optimizer.lr=1e-7", "lr"),
        ("dataset.num_frames=4", "num_frames"),
        (EXCLUDED, "excluded_videos"),
    ],
)
def test_a_run_is_resumed_with_its_own_settings(run, config, other, said):
    last = f"checkpoint={run[0] / 'checkpoints' / 'last.ckpt'}"
    with pytest.raises(UserError, match="other settings") as caught:
        train(config(*SMALL, "iterations=3", last, "resume=true", *other.split()))
    assert f"{said} is" in str(caught.value)


def test_resuming_into_the_same_folder_keeps_the_log(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupting(patch, 0, signal.SIGTERM)
        with pytest.raises(Interrupted, match="resume=true"):
            train(config(*SMALL, "iterations=2"))
    last = f"checkpoint={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}"
    train(config(*SMALL, "iterations=2", last, "resume=true"))
    # The run is finished and has its results; more iterations replace them.
    train(config(*SMALL, "iterations=3", last, "resume=true"))
    logs = [tmp_path / "run" / "csv" / f"metrics{part}.csv" for part in ("-1", "-2", "")]
    trained = [
        [line["step"] for line in csv.DictReader(log.read_text().splitlines()) if line["meta/query_loss"]]
        for log in logs
    ]
    assert trained == [["0"], ["1"], ["2"]]


@pytest.mark.parametrize("others", [(), (LIGHT, "meta/outer/optimizer=sgd")], ids=["adam", "sgd"])
def test_a_finished_run_can_be_resumed_for_more(config, tmp_path, others):
    constant = ("meta.outer.min_lr_ratio=null", "val_every=1", *others)
    whole = train(config(*SMALL, *constant, "iterations=2", output="whole"))
    train(config(*SMALL, *constant, "iterations=1", output="half"))
    best = f"checkpoint={tmp_path / 'half' / 'checkpoints' / 'best.ckpt'}"
    more = train(config(*SMALL, *constant, "iterations=2", best, "resume=true", output="rest"))
    pairs = zip(whole.learner.meta_parameters(), more.learner.meta_parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    # Two iterations, and the final evaluation.
    assert [line["step"] for line in timeless(tmp_path / "rest")] == ["1", "2", "2"]


def test_parent_training_is_resumed_too(config, tmp_path, monkeypatch):
    stages = ("parent.steps=3", "iterations=1")
    whole = train(config(*SMALL, *stages, output="whole"))
    with monkeypatch.context() as patch:
        interrupting(patch, 1, signal.SIGTERM, ParentModule)
        with pytest.raises(Interrupted, match="resume=true"):
            train(config(*SMALL, *stages, output="half"))
    last = tmp_path / "half" / "checkpoints" / "parent-last.ckpt"
    assert read_checkpoint(last)[0]["iteration"] == 2
    rest = train(config(*SMALL, *stages, f"checkpoint={last}", "resume=true", output="rest"))
    for one, other in ((whole.initial, rest.initial), (whole.learner, rest.learner)):
        pairs = zip(one.meta_parameters(), other.meta_parameters(), strict=True)
        assert all(torch.equal(mine, its) for mine, its in pairs)


def test_error_in_the_middle_leaves_a_checkpoint(config, tmp_path, monkeypatch):
    step = MetaModule.training_step

    def training_step(self, tasks, batch_idx):
        if self.iteration == 1:
            raise UserError("frame 00003.jpg is broken")
        return step(self, tasks, batch_idx)

    monkeypatch.setattr(MetaModule, "training_step", training_step)
    with pytest.raises(UserError, match=r"00003\.jpg"):
        train(config(*SMALL, "iterations=3"))
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")[0]["iteration"] == 1


def test_error_in_a_validation_leaves_a_checkpoint_and_is_no_result(config, tmp_path, monkeypatch):
    segment = Predictor.segment

    def broken(self, sequence):
        raise UserError("frame 00003.jpg is broken")
        yield

    monkeypatch.setattr(Predictor, "segment", broken)
    with pytest.raises(UserError, match=r"00003\.jpg is broken.*resume=true"):
        train(config(*SMALL, "iterations=3", "val_every=2"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)[0]["iteration"] == 2
    assert "val/J" not in logged(tmp_path / "run")[-1]
    monkeypatch.setattr(Predictor, "segment", segment)
    resumed = (f"checkpoint={last}", "resume=true")
    train(config(*SMALL, "iterations=3", "val_every=2", *resumed, output="rest"))
    assert read_checkpoint(tmp_path / "rest" / "checkpoints" / "last.ckpt")[0]["iteration"] == 3


def test_transfer_leaves_the_learning_rates_of_the_checkpoint_as_they_are(run, config):
    folder, result = run
    checkpoint = f"checkpoint={folder / 'checkpoints' / 'last.ckpt'}"
    frozen = ("meta.outer.inner_lr.lr=0", "meta.outer.freeze=[backbone,rpn]")
    transferred = train(config(*SMALL, checkpoint, *frozen, "seed=5", "iterations=2", "val_every=2"))
    assert all(map(torch.equal, transferred.learner.inner_lrs(), result.learner.inner_lrs()))
    before = dict(result.learner.segmenter.named_parameters())
    for name, weight in transferred.learner.segmenter.named_parameters():
        assert torch.equal(weight, before[name]) == name.startswith(("backbone.", "rpn.")), name


def test_resume_without_the_starting_point_has_no_initialisation(run, config, tmp_path):
    last = tmp_path / "alone.ckpt"
    shutil.copy(run[0] / "checkpoints" / "last.ckpt", last)
    result = train(config(*SMALL, "iterations=2", f"checkpoint={last}", "resume=true"))
    assert result.initial is None
    assert list(result.metrics) == ["meta-learned"]


def test_parent_training_alone(config):
    stages = ("parent.steps=1", "iterations=0", "final_eval.selection_videos=1")
    result = train(config(*SMALL, *stages, LIGHT))
    names = ["initialisation (parent training)", "initialisation (parent training), 10 steps"]
    assert [name.rpartition(", fixed learning rate ")[0] for name in result.metrics] == names


def test_no_gpu_is_said(config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="trainer=cpu"):
        train(config(*SMALL, "trainer=gpu"))
