"""The outer optimiser against the published RAdam, its groups, schedule and clipping."""

import numpy as np
import pytest
import torch
from test_learner import TinySegmenter
from torch import nn

from eosvos.meta.learner import MetaLearner
from eosvos.meta.learning_rates import RateConfig
from eosvos.meta.outer import GroupConfig, OuterConfig, build_optimizer, build_schedule, clip_groups


@pytest.fixture
def learner() -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(TinySegmenter(), RateConfig(init=0.05))


@pytest.mark.parametrize(("decayed", "reference"), [(True, "ref"), (False, "ref_wd0")])
def test_radam_equals_the_published_one(goldens, decayed, reference):
    """f(p) = 0.5 sum(a p^2), 12 steps."""
    golden = np.load(goldens / "meta" / "radam.npz")
    learner = MetaLearner(TinySegmenter(), RateConfig(init=0.05))
    learner.segmenter.backbone = nn.ParameterList([nn.Parameter(torch.from_numpy(golden["p0"].copy()))])
    decay = float(golden["wd"]) if decayed else 0.0
    optimizer = build_optimizer(learner, OuterConfig("radam", GroupConfig(float(golden["lr"]), decay)))
    [weight] = learner.weights()
    curvature = torch.from_numpy(golden["a"])
    for expected in golden[reference]:
        weight.grad = curvature * weight.detach()
        optimizer.step()
        np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6, rtol=0)


def with_head() -> MetaLearner:
    """A learner whose segmenter has weights beside its backbone."""
    segmenter = TinySegmenter()
    segmenter.head = nn.Conv2d(1, 1, 1)
    return MetaLearner(segmenter, RateConfig(init=0.05))


def test_groups_hold_every_meta_parameter_once():
    learner = with_head()
    config = OuterConfig("adam", GroupConfig(1e-3, 1e-2), GroupConfig(1e-2), freeze_encoder=True)
    optimizer = build_optimizer(learner, config)
    groups = {group["name"]: group for group in optimizer.param_groups}
    held = [id(p) for name in ("encoder", "heads", "rates") for p in groups[name]["params"]]
    assert held == [id(p) for p in learner.meta_parameters()]
    assert [id(p) for p in groups["heads"]["params"]] == [id(p) for p in learner.segmenter.head.parameters()]
    assert (groups["encoder"]["lr"], groups["heads"]["lr"], groups["heads"]["weight_decay"]) == (
        0,
        1e-3,
        1e-2,
    )
    assert (groups["rates"]["lr"], groups["rates"]["weight_decay"]) == (1e-2, 0)


def test_cosine_falls_from_one_to_its_end_and_none_stays():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = build_schedule(optimizer, 0.05, 10)
    seen = []
    for _ in range(11):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen[0] == 1
    assert seen[5] == pytest.approx((1 + 0.05) / 2)
    assert seen[10] == pytest.approx(0.05)
    assert seen == sorted(seen, reverse=True)
    assert build_schedule(optimizer, None, 10).lr_lambdas[0](7) == 1


def test_weights_and_rates_are_clipped_apart(learner):
    for p in learner.weights():
        p.grad = torch.full_like(p, 100.0)
    for p in learner.rates():
        p.grad = torch.full_like(p, 1e-3)
    clip_groups(build_optimizer(learner, OuterConfig()), 10.0)
    norm = torch.stack([p.grad.norm() for p in learner.weights()]).norm()
    assert norm.item() == pytest.approx(10, rel=1e-4)
    assert all((p.grad == 1e-3).all() for p in learner.rates())


def test_frozen_weights_do_not_count_in_the_norm():
    learner = with_head()
    for p in learner.meta_parameters():
        p.grad = torch.full_like(p, 100.0)
    for p in learner.segmenter.head.parameters():
        p.grad = torch.full_like(p, 1e-3)
    clip_groups(build_optimizer(learner, OuterConfig(freeze_encoder=True)), 10.0)
    assert all((p.grad == 1e-3).all() for p in learner.segmenter.head.parameters())
