"""The meta-gradient of the whole tiny Mask R-CNN: closed form, two processes against one, second order."""

import copy
from itertools import repeat
from pathlib import Path

import pytest
import torch
from ranks import of_two_processes
from torch import Tensor

from eosvos.config import models as config
from eosvos.config.data import Synthetic, Tasks
from eosvos.config.meta import InnerLR, Meta
from eosvos.data.synthetic import SyntheticTaskSource
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import Task, TaskSampler
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.meta.module import MetaModule
from eosvos.models.backbones import tiny_backbone
from eosvos.models.mask_rcnn import MaskRCNN
from eosvos.processes import rank_and_world_size
from eosvos.seeding import isolated_rng

STEPS = 3
META_BATCH = 4
NETWORK = config.MaskRCNN(
    weights="none",
    min_size=None,
    anchor_sizes=[14, 28, 48],
    anchor_ratios=[0.6, 1.0, 1.6],
    rpn_proposals_train=50,
    rpn_proposals_test=50,
    roi_samples=32,
    box_features=64,
    mask_roi=14,
    mask_channels=32,
    mask_layers=2,
    train_jitter=12,
)


def tiny_learner(order: str = "first_order") -> MetaLearner:
    torch.manual_seed(0)
    backbone = tiny_backbone(config.TinyBackbone(width=16, fpn_channels=32, levels=3))
    inner_lr = InnerLR(level="neuron", init=0.03, log=True)
    return MetaLearner(MaskRCNN(backbone, NETWORK), inner_lr, order=order)


def tiny_module() -> MetaModule:
    return MetaModule(tiny_learner(), Meta(inner_steps=STEPS, multi_step_loss=True), iterations=1, seed=3)


def tasks_of(slots: range) -> list[Task]:
    source = SyntheticTaskSource(Synthetic(size=[64, 96]))
    sampler = TaskSampler([TrainingSet(source)], Tasks(augment=None), META_BATCH, seed=5)
    return [sampler.sample(0, slot) for slot in slots]


def relative_difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp_min(1e-12)).item()


def share_of_gradient(_: Path) -> list[Tensor]:
    rank, world = rank_and_world_size()
    gradients, *losses = tiny_module().sum_over_tasks(tasks_of(range(rank, META_BATCH, world)))
    return [*gradients, *losses]


def test_two_processes_have_the_meta_gradient_of_one(tmp_path: Path):
    ranks = of_two_processes(share_of_gradient, tmp_path)
    gradients, *losses = tiny_module().sum_over_tasks(tasks_of(range(META_BATCH)))
    assert losses[1] == META_BATCH
    for of_rank in ranks:
        for shared, alone in zip(of_rank, [*gradients, *losses], strict=True):
            assert relative_difference(shared, alone) <= 1e-5


def test_first_order_meta_gradient_has_its_closed_form_on_the_whole_network():
    """w_K = w_0 - a (g_1 + ... + g_K): d/dw_0 = v, d/da = -sum v (g_1 + ... + g_K), d/dlog a = a d/da."""
    learner, [task] = tiny_learner(), tasks_of(range(1))
    support, query = (task.support_images, task.support_masks), (task.query_images, task.query_masks)
    with isolated_rng("closed form"):
        result = learner.meta_gradient(repeat(support, STEPS), [query], [0, 0, 1])

    with isolated_rng("closed form"):
        segmenter = copy.deepcopy(learner.segmenter)
        lrs = [learning_rate.lr().detach() for _, learning_rate in learner.named_inner_lrs()]
        sums = [torch.zeros_like(p) for p in segmenter.parameters()]
        for _ in range(STEPS):
            weights = list(segmenter.parameters())
            gradients = torch.autograd.grad(
                total_loss(segmenter, *support), weights, materialize_grads=True, allow_unused=True
            )
            for p, lr, g, s in zip(weights, lrs, gradients, sums, strict=True):
                p.data -= lr * g
                s += g
        v = torch.autograd.grad(
            total_loss(segmenter, *query), weights, materialize_grads=True, allow_unused=True
        )

    n = len(v)
    assert n == len(lrs) > 40
    for i, (gradient, lr, total) in enumerate(zip(v, lrs, sums, strict=True)):
        assert relative_difference(result.gradients[i], gradient) <= 1e-5
        per_value = -(gradient * total)
        shared = [d for d in range(lr.dim()) if lr.shape[d] == 1]
        per_lr = per_value.sum(shared, keepdim=True) if shared else per_value
        assert relative_difference(result.gradients[n + i], lr * per_lr) <= 1e-5


def test_autocast_casts_the_weights_of_every_step_and_leaves_losses_their_digits():
    """It keeps what it has cast until it ends, and weights change in place before."""
    [task] = tasks_of(range(1))
    support, query = (task.support_images, task.support_masks), (task.query_images, task.query_masks)
    found = []
    for cached in (True, False):
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cached), isolated_rng("bf16"):
            learner = tiny_learner()
            found.append(learner.meta_gradient(repeat(support, STEPS), [query], [0, 0, 1]))
            losses = learner.segmenter.losses(*support)
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(one.query_loss.dtype == torch.float32 for one in found)
    # What it has cast once, it sums the gradients of in 16 bits, where a weight has several uses.
    torch.testing.assert_close(found[0].support_losses, found[1].support_losses, rtol=5e-3, atol=0)
    assert (found[0].support_losses.diff() < -0.1).all()


@pytest.mark.parametrize("order", ["second_order_heads"])
def test_second_order_of_the_heads_reaches_the_encoder_by_mixed_terms(order):
    first, heads, [task] = tiny_learner(), tiny_learner(order), tasks_of(range(1))
    support, query = (task.support_images, task.support_masks), (task.query_images, task.query_masks)
    gradients = []
    for learner in (first, heads):
        with isolated_rng("order"):
            gradients.append(learner.meta_gradient(repeat(support, 2), [query], [0, 1]).gradients)
    names = [name for name, p in first.segmenter.named_parameters() if p.requires_grad]
    changed = {
        name.split(".")[0]
        for name, a, b in zip(names, *gradients, strict=False)
        if relative_difference(a, b) > 1e-4
    }
    assert changed >= {"roi_heads", "backbone"}
