"""The meta-training loop: means over finite tasks, outer steps, clamped inner learning rates, validation."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from ranks import of_two_processes
from test_learner import TinySegmenter
from torch.utils.data import DataLoader

from eosvos.config.meta import InnerLR, InnerLRGroup, Meta, Outer
from eosvos.config.training import Parent
from eosvos.data.tasks import Task
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.processes import rank_and_world_size
from eosvos.training.dashboard import Dashboard


class RegressionSegmenter(TinySegmenter):
    """Single precision, and masks as [B, H, W], as tasks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.float()

    def losses(self, images, masks):
        return {"mse": ((self.backbone(images)[:, 0] - masks[:, 2:-2, 2:-2].float()) ** 2).mean()}


def make_task(iteration: int, slot: int, broken: bool = False, query_frames: int = 1) -> Task:
    generator = torch.Generator().manual_seed(1000 * iteration + slot)
    image = lambda n: torch.rand(n, 3, 10, 10, generator=generator) * (float("nan") if broken else 1.0)
    mask = lambda n: torch.randint(0, 2, (n, 10, 10), generator=generator, dtype=torch.uint8)
    frames = (image(1), mask(1), image(query_frames), mask(query_frames))
    return Task(*frames, sequence=f"video{slot}", object_id=1, iteration=iteration, slot=slot)


def optimizer_settings(name: str, lr: float, **arguments) -> dict:
    return {"_target_": f"torch.optim.{name}", "lr": lr, **arguments}


def make_module(
    iterations: int = 10, evaluate=None, optimizer: dict | None = None, max_nonfinite_iterations: int = 10
) -> MetaModule:
    torch.manual_seed(0)
    learner = MetaLearner(RegressionSegmenter(), InnerLR(init=0.05, max=0.06))
    outer = Outer(optimizer=optimizer or optimizer_settings("Adam", 1e-2), inner_lr=InnerLRGroup(lr=1e-1))
    meta = Meta(inner_steps=3, outer=outer, max_nonfinite_iterations=max_nonfinite_iterations)
    return MetaModule(learner, meta, iterations, evaluate=evaluate)


def scored(j_and_f: list[tuple[float, float]]) -> SimpleNamespace:
    return SimpleNamespace(j_and_f=j_and_f)


def parent_of(steps: int) -> Parent:
    return Parent(steps=steps, optimizer=optimizer_settings("AdamW", 1e-2, weight_decay=1e-4))


def fit(
    module: pl.LightningModule,
    batches: list[list[Task]],
    sequences: list[object] | None = None,
    logger: Logger | bool = False,
    **options,
) -> pl.Trainer:
    trainer = pl.Trainer(
        callbacks=[Dashboard(Path("nowhere"))] if isinstance(module, MetaModule) else [],
        accelerator="cpu",
        max_epochs=1,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        num_sanity_val_steps=0,
        **options,
    )
    load = lambda items: DataLoader(items, batch_size=None, collate_fn=lambda item: item)
    trainer.fit(module, load(batches), load(sequences) if sequences else None)
    return trainer


def test_a_non_finite_task_is_left_out_of_sum_and_divisor_and_named(caplog):
    tasks = [make_task(0, slot, broken=slot == 1) for slot in range(3)]
    module = make_module()
    with caplog.at_level(logging.WARNING):
        gradients, _, count = module.sum_over_tasks(tasks)
    assert count == 2
    assert "iteration 0: task video1:1 is left out" in caplog.text
    without, *_ = module.sum_over_tasks([tasks[0], tasks[2]])
    for a, b in zip(gradients, without, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_one_iteration_is_one_adam_step_along_the_mean_meta_gradient():
    tasks = [make_task(0, slot, query_frames=2) for slot in range(4)]
    module, reference = make_module(), make_module()
    gradients, *_ = reference.sum_over_tasks(tasks)
    parameters = reference.learner.meta_parameters()
    n = len(reference.learner.weights())
    optimizer = torch.optim.Adam(
        [{"params": parameters[:n], "lr": 1e-2}, {"params": parameters[n:], "lr": 1e-1}]
    )
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient / 4
    optimizer.step()
    reference.learner.clamp_inner_lrs()

    fit(module, [tasks])
    assert module.iteration == 1
    for a, b in zip(module.learner.meta_parameters(), parameters, strict=True):
        torch.testing.assert_close(a, b)
    lrs = [learning_rate.lr() for _, learning_rate in module.learner.named_inner_lrs()]
    assert all((lr <= 0.06).all() and (lr >= 0).all() for lr in lrs)


def test_meta_training_lowers_the_query_loss():
    module = make_module(iterations=60)
    tasks = [make_task(0, slot) for slot in range(4)]
    before = module.sum_over_tasks(tasks)[1][0]
    fit(module, [tasks] * 60)
    assert module.sum_over_tasks(tasks)[1][0] < 0.8 * before


def test_processes_beside_the_main_one_end_without_a_word_then(monkeypatch):
    monkeypatch.setattr("eosvos.processes.is_rank_zero", lambda: False)
    with pytest.raises(SystemExit) as end:
        fit(make_module(max_nonfinite_iterations=2), [[make_task(i, 0, broken=True)] for i in range(3)])
    assert end.value.code is None


def test_the_run_stops_when_no_task_is_finite_for_too_long():
    module = make_module(max_nonfinite_iterations=3)
    start = [p.detach().clone() for p in module.learner.meta_parameters()]
    with pytest.raises(UserError, match=r"finite loss in 3 meta iterations.*meta\.inner_lr\.init"):
        fit(module, [[make_task(i, 0, broken=True)] for i in range(5)])
    assert module.iteration == 2
    for a, b in zip(module.learner.meta_parameters(), start, strict=True):
        torch.testing.assert_close(a.detach(), b, rtol=0, atol=0)


def test_what_is_not_finite_is_counted_on_after_a_resume():
    stopped, resumed, checkpoint = make_module(), make_module(), {}
    stopped.nonfinite_iterations, stopped._nonfinite_tasks = 3, ["one"]
    stopped.on_save_checkpoint(checkpoint)
    stopped._nonfinite_tasks.append("two")
    resumed.on_load_checkpoint(checkpoint)
    assert (resumed.nonfinite_iterations, resumed._nonfinite_tasks) == (3, ["one"])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_last_iteration_without_a_finite_task_ends_in_an_error_only_if_no_other_had_one(name):
    good, bad = [make_task(0, 0)], [make_task(1, 0, broken=True)]
    optimizer = optimizer_settings(name, 1e-2)
    module = make_module(iterations=2, optimizer=optimizer)
    fit(module, [good, bad])
    assert module.iteration == 2
    with pytest.raises(UserError, match="finite loss in 2 meta iterations"):
        fit(make_module(iterations=2, optimizer=optimizer), [bad, bad])
    # A limit of time ends it earlier.
    with pytest.raises(UserError, match="finite loss in 2 meta iterations, up to 1;"):
        fit(make_module(iterations=100, optimizer=optimizer), [bad, bad])


class Kept(Logger):
    """A logger that keeps what it is given, by step."""

    name, version = "kept", 0

    def __init__(self):
        super().__init__()
        self.lines = {}

    def log_metrics(self, metrics, step=None):
        self.lines[step] = metrics

    def log_hyperparams(self, *_):
        pass


def test_left_out_tasks_are_counted_in_the_log():
    logger = Kept()
    batches = [
        [make_task(i, slot, broken=i == 2 or (i, slot) == (1, 0)) for slot in range(2)] for i in range(4)
    ]
    fit(make_module(), batches, logger=logger, log_every_n_steps=3)
    assert {step: line["meta/nonfinite_tasks"] for step, line in logger.lines.items()} == {
        0: 0,
        1: 1,
        2: 2,
        3: 0,
    }
    assert "meta/query_loss" in logger.lines[1]
    assert "meta/query_loss" not in logger.lines[2]


def test_nothing_to_score_is_said():
    module = make_module(evaluate=lambda learner, sequence: scored([]))
    with pytest.raises(UserError, match="no validation video has a frame to score"):
        fit(module, [[make_task(0, 0)]], ["one"])


def test_validation_averages_over_objects_and_skips_padding():
    scores = {"one": [(0.5, 0.7)], "two": [(0.1, 0.3), (0.3, 0.5)]}
    module = make_module(evaluate=lambda learner, sequence: scored(scores[sequence]))
    trainer = fit(module, [[make_task(0, 0)]], ["one", None, "two"])
    metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert metrics["val/J"] == pytest.approx(0.3)
    assert metrics["val/F"] == pytest.approx(0.5)
    assert metrics["val/J&F"] == pytest.approx(0.4)


def test_validation_is_in_single_precision_whatever_training_is_in():
    seen = []

    def evaluate(learner, sequence):
        seen.append(torch.is_autocast_enabled("cpu"))
        return scored([(0.5, 0.5)])

    fit(make_module(evaluate=evaluate), [[make_task(0, 0)]], ["one"], precision="bf16-mixed")
    assert seen == [False]


def test_parent_training_lowers_the_loss_and_leaves_the_inner_learning_rates():
    torch.manual_seed(0)
    learner = MetaLearner(RegressionSegmenter(), InnerLR(init=0.05))
    before_lrs = [lr.detach().clone() for lr in learner.inner_lrs()]
    tasks = [make_task(0, slot) for slot in range(2)]
    loss = lambda: sum(
        learner.segmenter.losses(t.support_images, t.support_masks)["mse"].item() for t in tasks
    )
    before = loss()
    fit(ParentModule(learner, parent_of(steps=40)), [tasks] * 40)
    assert loss() < 0.9 * before
    assert all(torch.equal(a, b.detach()) for a, b in zip(before_lrs, learner.inner_lrs(), strict=True))


def test_parent_training_names_the_tasks_of_a_loss_that_is_not_finite():
    learner = MetaLearner(RegressionSegmenter())
    with pytest.raises(UserError, match="video0:1"):
        fit(ParentModule(learner, parent_of(steps=1)), [[make_task(0, 0, broken=True)]])


def end_of_parent_step(_: Path) -> str:
    """How the step ends in one of two processes, the second of which has a broken task."""
    rank, _ = rank_and_world_size()
    module = ParentModule(MetaLearner(RegressionSegmenter()), parent_of(steps=1))
    try:
        module.training_step([make_task(0, rank, broken=rank == 1)], 0)
    except UserError as error:
        return str(error)
    except SystemExit as error:
        return f"silently with {error.code or 0}"
    return "well"


def test_a_loss_that_is_not_finite_in_one_process_ends_parent_training_in_all(tmp_path: Path):
    main, other = of_two_processes(end_of_parent_step, tmp_path)
    assert "the loss of video1:1 is not finite" in main
    assert other == "silently with 0"
