"""The meta-gradient of the whole tiny Mask R-CNN: closed form, two processes against one, second order."""

import copy
from itertools import repeat
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import Tensor

from eosvos.config import models as config
from eosvos.data.synthetic import SyntheticPool
from eosvos.data.tasks import Task, TaskSampler
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.meta.learning_rates import RateConfig
from eosvos.meta.module import MetaModule
from eosvos.meta.outer import OuterConfig
from eosvos.models.backbones import tiny_backbone
from eosvos.models.mask_rcnn import MaskRCNN
from eosvos.seeding import isolated_rng

STEPS = 3
META_BATCH = 4


def tiny_learner(order: str = "first") -> MetaLearner:
    torch.manual_seed(0)
    settings = config.MaskRCNN(
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
    segmenter = MaskRCNN(tiny_backbone(config.TinyBackbone(width=16)), settings)
    return MetaLearner(segmenter, RateConfig(level="neuron", init=0.03, log=True), order=order)


def tasks_of(slots: range) -> list[Task]:
    sampler = TaskSampler(SyntheticPool(size=(64, 96)), META_BATCH, seed=5)
    return [sampler.sample(0, slot) for slot in slots]


def relative_difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm().clamp_min(1e-12)).item()


def share_of_gradient(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world)
    module = MetaModule(tiny_learner(), OuterConfig(), 1, [1 / STEPS] * STEPS, seed=3)
    gradients, losses = module.sum_over_tasks(tasks_of(range(rank, META_BATCH, world)))
    torch.save([*gradients, losses], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_meta_gradient_of_one(tmp_path: Path):
    mp.spawn(share_of_gradient, (2, str(tmp_path)), nprocs=2)
    module = MetaModule(tiny_learner(), OuterConfig(), 1, [1 / STEPS] * STEPS, seed=3)
    gradients, losses = module.sum_over_tasks(tasks_of(range(META_BATCH)))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert losses[3] == META_BATCH
    for of_rank in ranks:
        for shared, alone in zip(of_rank, [*gradients, losses], strict=True):
            assert relative_difference(shared, alone) <= 1e-5


def test_first_order_meta_gradient_has_its_closed_form_on_the_whole_network():
    """w_K = w_0 - r (g_1 + ... + g_K): d/dw_0 = v, d/dr = -sum v (g_1 + ... + g_K), d/dlog r = r d/dr."""
    learner, [task] = tiny_learner(), tasks_of(range(1))
    support, query = (task.support_images, task.support_masks), (task.query_images, task.query_masks)
    with isolated_rng("closed form"):
        result = learner.meta_gradient(repeat(support, STEPS), [query], [0, 0, 1])

    with isolated_rng("closed form"):
        segmenter = copy.deepcopy(learner.segmenter)
        rates = [rate.rate().detach() for _, rate in learner.named_rates()]
        sums = [torch.zeros_like(p) for p in segmenter.parameters()]
        for _ in range(STEPS):
            weights = list(segmenter.parameters())
            gradients = torch.autograd.grad(
                total_loss(segmenter, *support), weights, materialize_grads=True, allow_unused=True
            )
            for p, r, g, s in zip(weights, rates, gradients, sums, strict=True):
                p.data -= r * g
                s += g
        v = torch.autograd.grad(
            total_loss(segmenter, *query), weights, materialize_grads=True, allow_unused=True
        )

    n = len(v)
    assert n == len(rates) > 40
    for i, (gradient, rate, total) in enumerate(zip(v, rates, sums, strict=True)):
        assert relative_difference(result.gradients[i], gradient) <= 1e-5
        per_value = -(gradient * total)
        shared = [d for d in range(rate.dim()) if rate.shape[d] == 1]
        per_rate = per_value.sum(shared, keepdim=True) if shared else per_value
        assert relative_difference(result.gradients[n + i], rate * per_rate) <= 1e-5


@pytest.mark.parametrize("order", ["heads"])
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
