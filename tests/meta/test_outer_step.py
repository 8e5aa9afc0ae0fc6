"""The outer loop against loops and optimisers that are written out here, in double precision."""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice, repeat

import pytest
import torch
from test_learner import TinySegmenter
from test_mask_rcnn_meta import tiny_learner
from test_module import Kept, fit, make_task, optimizer_settings, parent_of
from torch import Tensor, nn
from torch.func import functional_call

from eosvos.config.meta import InnerLR, InnerLRGroup, Meta, Outer
from eosvos.config.training import Parent
from eosvos.data.tasks import Task
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.outer import build_optimizer
from eosvos.meta.parent import ParentModule

CLOSE = {"rtol": 1e-9, "atol": 1e-14}


class Toy(TinySegmenter):
    """A small network with the parts of a detector. On a black frame its loss has no derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 3).double()
        self.rpn = nn.Conv2d(3, 2, 1).double()
        self.roi_heads = nn.Conv2d(2, 1, 3).double()

    def forward(self, images: Tensor) -> Tensor:
        light = (images.mean() * self.roi_heads.bias**2).sqrt().sum()
        return self.roi_heads(self.rpn(self.backbone(images).tanh()).tanh())[:, 0] + light

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        return {"mse": loss_of(self(images), masks)}


def loss_of(output: Tensor, masks: Tensor) -> Tensor:
    return ((output - masks[:, 2:-2, 2:-2]) ** 2).mean()


def toy_task(iteration: int, slot: int, black: bool = False, **options) -> Task:
    task = make_task(iteration, slot, **options)
    query = task.query_images.double() * (0 if black else 1)
    return replace(task, support_images=task.support_images.double(), query_images=query)


def toy_learner(**inner_lr) -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(Toy(), InnerLR(**{"init": 0.05, **inner_lr}))


def toy_module(meta: Meta | None = None, **inner_lr) -> MetaModule:
    return MetaModule(toy_learner(**inner_lr), meta or Meta(inner_steps=3), iterations=8)


def meta_gradient_by_hand(
    learner: MetaLearner, task: Task, query_weights: Sequence[float], truncate_every: int | None = None
) -> list[Tensor]:
    """Of first order: fine-tune on the support frame, and add up the losses of all query frames."""
    network, settings = learner.segmenter, learner.inner_lr
    names = [name for name, _ in network.named_parameters()]
    start = [p.detach().clone().requires_grad_() for p in learner.weights()]
    values = [lr.detach().clone().requires_grad_() for lr in learner.inner_lrs()]

    def loss(weights: Sequence[Tensor], images: Tensor, masks: Tensor) -> Tensor:
        return loss_of(functional_call(network, dict(zip(names, weights, strict=True)), images), masks)

    now, total = start, torch.zeros((), dtype=torch.float64)
    for step, weight in enumerate(query_weights, start=1):
        at = [p.detach().requires_grad_() for p in now]
        gradients = torch.autograd.grad(loss(at, task.support_images, task.support_masks), at)
        if settings.max_grad_norm is not None:
            gradients = [g * min(1.0, settings.max_grad_norm / float(g.norm())) for g in gradients]
        lrs = [value.exp() if settings.log else value for value in values] * (len(now) // len(values))
        now = [p - lr * g for p, lr, g in zip(now, lrs, gradients, strict=True)]
        for image, mask in zip(task.query_images, task.query_masks, strict=True):
            total = total + weight * loss(now, image[None], mask[None])
        if truncate_every and step % truncate_every == 0:
            now = [p.detach() for p in now]
    return list(torch.autograd.grad(total, [*start, *values]))


@pytest.mark.parametrize(
    ("inner_lr", "query_weights", "truncate_every"),
    [
        ({}, [0, 0, 1], None),
        ({"log": True}, [0.2, 0.3, 0.5], None),
        ({"max_grad_norm": 0.1}, [0, 1], None),
        ({"level": "single"}, [1], None),
        ({}, [0.1, 0.2, 0.1, 0.2, 0.1, 0.3], 2),
        ({"level": "param"}, [0.5, 0, 0, 0, 0, 0.5], 3),
    ],
)
def test_the_gradient_of_a_task_is_that_of_its_query_frames_after_steps_on_its_support_frame(
    inner_lr, query_weights, truncate_every
):
    task = toy_task(0, 0, query_frames=3)
    steps = len(query_weights)
    meta = Meta(
        inner_steps=steps, multi_step_loss=True, step_weights=query_weights, truncate_every=truncate_every
    )
    module = toy_module(meta, **inner_lr)
    gradients, losses, _ = module.sum_over_tasks([task])
    for mine, by_hand in zip(
        gradients, meta_gradient_by_hand(module.learner, task, query_weights, truncate_every), strict=True
    ):
        torch.testing.assert_close(mine, by_hand, **CLOSE)
    support = repeat((task.support_images, task.support_masks), steps)
    query = [(task.query_images[i : i + 1], task.query_masks[i : i + 1]) for i in range(3)]
    learners = module.learner.meta_gradient(support, query, query_weights, truncate_every)
    for mine, its in zip(gradients, learners.gradients, strict=True):
        torch.testing.assert_close(mine, its, **CLOSE)
    expected = torch.cat([learners.query_loss[None], learners.support_losses])
    torch.testing.assert_close(losses, expected.float())


class ByHand:
    """Adam, or RAdam, with decoupled weight decay, over groups of (parameters, lr, weight decay)."""

    def __init__(self, name: str, groups: Sequence[tuple[list[Tensor], float, float]]) -> None:
        self.name, self.groups, self.steps = name, groups, 0
        self.moments = [[(torch.zeros_like(p), torch.zeros_like(p)) for p in group[0]] for group in groups]

    @torch.no_grad()
    def step(self, gradients: Sequence[Sequence[Tensor]], factor: float) -> None:
        """Take a step whose learning rates are multiplied by `factor`; gradients by group."""
        self.steps += 1
        for (parameters, lr, weight_decay), moments, slopes in zip(
            self.groups, self.moments, gradients, strict=True
        ):
            for p, (first, second), slope in zip(parameters, moments, slopes, strict=True):
                p *= 1 - factor * lr * weight_decay
                first.mul_(0.9).add_(0.1 * slope)
                second.mul_(0.999).add_(0.001 * slope**2)
                p -= factor * lr * self._direction(first, second)

    def _direction(self, first: Tensor, second: Tensor) -> Tensor:
        t = self.steps
        mean, root = first / (1 - 0.9**t), (second / (1 - 0.999**t)).sqrt()
        if self.name == "Adam":
            return mean / (root + 1e-8)
        longest = 2 / 0.001 - 1
        length = longest - 2 * t * 0.999**t / (1 - 0.999**t)
        if length <= 5:
            return mean
        rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
        return mean * math.sqrt(rectified) / (root + 1e-8 / math.sqrt(1 - 0.999**t))


def train_by_hand(
    learner: MetaLearner, outer: Outer, iterations: int, batches: Sequence[Sequence[Task]]
) -> None:
    """Meta-train in place, with the query loss after the last of three steps."""
    parts = ("backbone", "rpn", "roi_heads")
    by_part = {part: list(getattr(learner.segmenter, part).parameters()) for part in parts}
    lr, weight_decay = outer.optimizer["lr"], outer.optimizer["weight_decay"]
    groups = [
        *((by_part[part], 0.0 if part in outer.freeze else lr, weight_decay) for part in parts),
        (learner.inner_lrs(), outer.inner_lr.lr, outer.inner_lr.weight_decay),
    ]
    optimizer = ByHand(outer.optimizer["_target_"].removeprefix("torch.optim."), groups)
    for iteration, tasks in enumerate(batches):
        of_tasks = [meta_gradient_by_hand(learner, task, [0, 0, 1]) for task in tasks]
        mean = [sum(values) / len(tasks) for values in zip(*of_tasks, strict=True)]
        bound = outer.max_grad_value or math.inf
        values = iter(gradient.clamp(-bound, bound) for gradient in mean)
        sloped = [list(islice(values, len(group[0]))) for group in groups]
        for clipped in [i for i, part in enumerate(parts) if part not in outer.freeze], [3]:
            norm = math.sqrt(sum(float((g**2).sum()) for i in clipped for g in sloped[i]))
            for i in clipped:
                # torch adds a millionth, lest it divide by nothing.
                sloped[i] = [
                    g * min(1.0, (outer.max_grad_norm or math.inf) / (norm + 1e-6)) for g in sloped[i]
                ]
        end = 1.0 if outer.min_lr_ratio is None else outer.min_lr_ratio
        optimizer.step(sloped, end + (1 - end) * (1 + math.cos(math.pi * iteration / iterations)) / 2)
        with torch.no_grad():
            for lr in learner.inner_lrs():
                lr.clamp_(0, learner.inner_lr.max)


def outer_settings(name: str, **settings) -> Outer:
    optimizer = optimizer_settings(name, 1e-2, weight_decay=0.3, decoupled_weight_decay=True)
    return Outer(optimizer=optimizer, inner_lr=InnerLRGroup(lr=2e-3, weight_decay=0.1), **settings)


# The norms of both gradients are from 0.1 to 3: bounds below, among and above them.
OUTER = [
    outer_settings("RAdam"),
    outer_settings("Adam"),
    outer_settings("RAdam", max_grad_norm=0.02, min_lr_ratio=0.1),
    outer_settings("RAdam", max_grad_norm=1.9),
    outer_settings("Adam", max_grad_norm=0.5, min_lr_ratio=0.0),
    outer_settings("RAdam", max_grad_norm=1e3, freeze=["backbone", "rpn"]),
    outer_settings("RAdam", max_grad_norm=1.0, freeze=["backbone", "rpn"]),
    outer_settings("Adam", max_grad_norm=1.0, freeze=["roi_heads"]),
    outer_settings("RAdam", max_grad_value=0.01),
    outer_settings("RAdam", max_grad_value=0.05, max_grad_norm=0.1, freeze=["backbone"]),
]


@pytest.mark.parametrize("outer", OUTER, ids=str)
def test_whole_iterations_equal_those_by_hand(outer):
    """Eight, so that moments, schedule, bounds and RAdam's rectification from the sixth step on all show."""
    module = toy_module(Meta(inner_steps=3, outer=outer), max=0.06)
    batches = [[toy_task(iteration, slot, query_frames=2) for slot in range(3)] for iteration in range(8)]
    reference = copy.deepcopy(module.learner)
    assert any((lr > 0.06).any() for lr in reference.inner_lrs())
    train_by_hand(reference, outer, 8, batches)
    fit(module, batches)
    names = [*dict(module.learner.segmenter.named_parameters()), *map(str, range(6))]
    parameters = zip(names, module.learner.meta_parameters(), reference.meta_parameters(), strict=True)
    for name, mine, by_hand in parameters:
        torch.testing.assert_close(
            mine.detach(), by_hand.detach(), rtol=1e-7, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}"
        )
    assert all((lr <= 0.06).all() for lr in module.learner.inner_lrs())


@pytest.mark.parametrize("log", [False, True])
def test_frozen_inner_learning_rates_stay_bit_for_bit_and_the_weights_move(log):
    outer = outer_settings("RAdam", min_lr_ratio=0.1).model_copy(
        update={"inner_lr": InnerLRGroup(lr=0.0, weight_decay=0.1)}
    )
    module = toy_module(Meta(inner_steps=3, outer=outer), log=log)
    before = copy.deepcopy(module.learner)
    fit(module, [[toy_task(iteration, 0)] for iteration in range(3)])
    assert all(map(torch.equal, module.learner.inner_lrs(), before.inner_lrs()))
    assert not any(map(torch.equal, module.learner.weights(), before.weights()))
    assert all(p.grad is None for p in module.learner.parameters())


def after(batch: list[Task], **options) -> list[Tensor]:
    """Meta-parameters after an iteration; RAdam's first step, unlike Adam's, is as long as the gradient."""
    module = toy_module(Meta(inner_steps=3, outer=outer_settings("RAdam")))
    fit(module, [batch], **options)
    return [p.detach() for p in module.learner.meta_parameters()]


def assert_equal(some: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("fault", [{"broken": True}, {"black": True}], ids=["loss", "gradient"])
def test_what_is_not_finite_is_left_out_named_and_counted(fault, caplog):
    good = [toy_task(0, 0), toy_task(0, 2)]
    bad, logger = toy_task(0, 1, **fault), Kept()
    if "black" in fault:
        result = toy_learner().meta_gradient(
            repeat((bad.support_images, bad.support_masks), 3),
            [(bad.query_images, bad.query_masks)],
            [0, 0, 1],
        )
        assert result.query_loss.isfinite()
        assert not all(g.isfinite().all() for g in result.gradients)
    with caplog.at_level(logging.WARNING):
        with_it = after([good[0], bad, good[1]], logger=logger)
    assert_equal(with_it, after(good))
    assert "video1:1 is left out" in caplog.text
    assert logger.lines[0]["meta/nonfinite_tasks"] == 1


def test_every_task_twice_steps_as_once():
    tasks = [toy_task(0, slot) for slot in range(3)]
    assert_equal(after(tasks * 2), after(tasks))
    assert any(not torch.equal(one, other) for one, other in zip(after(tasks), after(tasks[:2]), strict=True))


def test_logged_losses_are_means_over_the_finite_tasks():
    tasks, logger = [toy_task(0, slot, broken=slot == 1) for slot in range(3)], Kept()
    after(tasks, logger=logger)
    losses = [toy_module().sum_over_tasks([tasks[slot]])[1] for slot in (0, 2)]
    names = ["meta/query_loss", *(f"meta/support_loss/{step}" for step in range(1, len(losses[0])))]
    means = torch.stack(losses).mean(0).tolist()
    assert [logger.lines[0][name] for name in names] == pytest.approx(means)
    ends = [logger.lines[0][f"meta/support_loss_{end}"] for end in ("first", "last")]
    assert ends == pytest.approx([means[1], means[-1]])


def test_without_its_encoder_a_detector_still_learns_to_propose():
    segmenter = tiny_learner().segmenter
    learner = MetaLearner(segmenter, train_encoder=False)
    frozen = {name.partition(".")[0] for name, p in segmenter.named_parameters() if not p.requires_grad}
    learned = {name.partition(".")[0] for name, _ in learner.named_inner_lrs()}
    assert (frozen, learned) == ({"backbone"}, {"rpn", "roi_heads"})


def test_a_detector_without_backbone_and_rpn_learns_its_heads_as_published_transfer_does():
    learner = tiny_learner()
    optimizer = build_optimizer(learner, Outer(freeze=["backbone", "rpn"]))
    before = {name: p.detach().clone() for name, p in learner.segmenter.named_parameters()}
    for p in learner.meta_parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in learner.segmenter.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith(("backbone.", "rpn.")), name


def test_parent_training_equals_adamw_by_hand_on_the_support_frames():
    batches = [[toy_task(iteration, slot) for slot in range(3)] for iteration in range(4)]
    learner = toy_learner()
    reference = copy.deepcopy(learner)
    optimizer = ByHand("Adam", [(reference.weights(), 1e-2, 0.2)])
    for iteration, tasks in enumerate(batches):
        losses = [reference.segmenter.losses(t.support_images, t.support_masks)["mse"] for t in tasks]
        gradients = torch.autograd.grad(sum(losses) / 3, reference.weights())
        optimizer.step([gradients], 0.01 + 0.99 * (1 + math.cos(math.pi * iteration / 4)) / 2)
    nothing = torch.full_like(batches[0][0].query_images, torch.nan)
    blind = [[replace(task, query_images=nothing) for task in tasks] for tasks in batches]
    parent = Parent(steps=4, optimizer=optimizer_settings("AdamW", 1e-2, weight_decay=0.2))
    fit(ParentModule(learner, parent), blind)
    for mine, by_hand in zip(learner.meta_parameters(), reference.meta_parameters(), strict=True):
        torch.testing.assert_close(mine.detach(), by_hand.detach(), rtol=1e-7, atol=1e-12)


def noting(step, learner, seen):
    """An optimiser's step that notes the gradient; not of the trial step, which has no closure."""

    def noted(self, closure=None):
        done = step(self, closure)
        if closure is not None:
            seen.append(learner.weights()[0].grad)
        return done

    return noted


def test_parent_training_steps_along_the_mean(monkeypatch):
    """AdamW's step hardly tells a mean from a sum: the gradients it is given do."""
    task, seen = toy_task(0, 0), []
    for tasks in ([task], [task] * 3):
        learner = toy_learner()
        step = torch.optim.AdamW.step
        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", noting(step, learner, seen))
            fit(ParentModule(learner, parent_of(steps=1)), [tasks])
    torch.testing.assert_close(*seen)


def test_parent_training_clips_the_gradient(monkeypatch):
    """The norm of what the optimiser is given is the bound, and the direction that of the whole gradient."""
    task, seen = toy_task(0, 0), []
    for max_grad_norm in (None, 1e-3):
        learner = toy_learner()
        step = torch.optim.AdamW.step
        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", noting(step, learner, seen))
            parent = Parent(steps=1, max_grad_norm=max_grad_norm)
            fit(ParentModule(learner, parent), [[task]])
    whole, clipped = (gradient.flatten() for gradient in seen)
    assert clipped.norm() <= 1e-3 < whole.norm()
    torch.testing.assert_close(clipped / clipped.norm(), whole / whole.norm())
