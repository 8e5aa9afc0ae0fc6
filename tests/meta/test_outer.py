"""The outer optimiser against the published RAdam, its groups, schedule and clipping."""

import numpy as np
import pytest
import torch
from test_learner import TinySegmenter
from test_module import optimizer_settings
from torch import nn

from eosvos.config.meta import InnerLR, InnerLRGroup, Outer
from eosvos.errors import UserError
from eosvos.meta.learner import MetaLearner
from eosvos.meta.outer import build_optimizer, build_schedule, clip_meta_gradient


@pytest.fixture
def learner() -> MetaLearner:
    torch.manual_seed(0)
    return MetaLearner(TinySegmenter(), InnerLR(init=0.05))


@pytest.mark.parametrize(("decayed", "reference"), [(True, "ref"), (False, "ref_wd0")])
def test_radam_equals_the_published_one(goldens, decayed, reference):
    """f(p) = 0.5 sum(a p^2), 12 steps."""
    golden = np.load(goldens / "meta" / "radam.npz")
    learner = MetaLearner(TinySegmenter(), InnerLR(init=0.05))
    learner.segmenter.backbone = nn.ParameterList([nn.Parameter(torch.from_numpy(golden["p0"].copy()))])
    arguments = dict(weight_decay=float(golden["wd"]) if decayed else 0.0, decoupled_weight_decay=True)
    settings = optimizer_settings("RAdam", float(golden["lr"]), **arguments)
    optimizer = build_optimizer(learner, Outer(optimizer=settings))
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
    return MetaLearner(segmenter, InnerLR(init=0.05))


def test_groups_hold_every_meta_parameter_once():
    learner = with_head()
    settings = optimizer_settings("Adam", 1e-3, weight_decay=1e-2, decoupled_weight_decay=True)
    optimizer = build_optimizer(learner, Outer(optimizer=settings, inner_lr=InnerLRGroup(lr=1e-2)))
    groups = {group["name"]: group for group in optimizer.param_groups}
    held = [id(p) for name in ("weights", "inner_lr") for p in groups[name]["params"]]
    assert held == [id(p) for p in learner.meta_parameters()]
    assert (groups["weights"]["lr"], groups["weights"]["weight_decay"]) == (1e-3, 1e-2)
    assert (groups["inner_lr"]["lr"], groups["inner_lr"]["weight_decay"]) == (1e-2, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_target_": "torch.optim.Adamm"}, "_target_=torch.optim.Adamm is no optimiser class"),
        ({"_target_": "nowhere.Adam"}, "_target_=nowhere.Adam is no optimiser class"),
        ({"_target_": "torch.nn.Linear"}, "_target_=torch.nn.Linear is no optimiser class"),
        ({"_target_": "torch.optim"}, "_target_=torch.optim is no optimiser class"),
        ({"_target_": "torch.optim.SGD", "betas": [0.9, 0.99]}, "unexpected keyword argument 'betas'"),
        ({"_target_": "torch.optim.LBFGS"}, "LBFGS doesn't support per-parameter options"),
    ],
)
def test_what_is_no_optimiser_is_refused_in_one_sentence(settings, message):
    with pytest.raises(UserError, match=f"^optimizer: .*{message}"):
        build_optimizer(with_head(), Outer(optimizer=settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 1e-3}, "it has no _target_"),
        ({"_target_": "torch.optim.Adam", "lr": -1.0}, "lr=-1.0 must be a number from 0"),
        ({"_target_": "torch.optim.Adam", "eps": float("nan")}, "eps=nan must be a finite number"),
    ],
)
def test_the_declaration_refuses_what_no_optimiser_takes(settings, message):
    with pytest.raises(ValueError, match=message):
        Outer(optimizer=settings)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("SGD", {"momentum": 0.9}), ("AdamW", {"betas": [0.8, 0.9]}), ("Adafactor", {}), ("Rprop", {})],
)
@pytest.mark.parametrize("outer", [{"freeze": ["backbone"]}, {"inner_lr": InnerLRGroup(lr=0.0)}], ids=str)
def test_any_optimiser_of_torch_steps_and_holds_what_is_frozen(name, arguments, outer):
    learner = with_head()
    settings = optimizer_settings(name, 1e-2, **arguments)
    optimizer = build_optimizer(learner, Outer(optimizer=settings, **outer))
    assert type(optimizer) is getattr(torch.optim, name)
    before = [p.detach().clone() for p in learner.meta_parameters()]
    for p in learner.meta_parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    frozen = learner.segmenter.backbone.parameters() if "freeze" in outer else learner.inner_lrs()
    frozen = {id(p) for p in frozen}
    for p, old in zip(learner.meta_parameters(), before, strict=True):
        assert torch.equal(p, old) == (id(p) in frozen)


def test_parts_that_are_not_there_and_a_freeze_of_all_are_refused():
    with pytest.raises(UserError, match=r"freeze=\['rpn'\]: TinySegmenter has no rpn, but backbone, head"):
        build_optimizer(with_head(), Outer(freeze=["rpn"]))
    with pytest.raises(UserError, match="leave nothing to learn"):
        build_optimizer(with_head(), Outer(freeze=["backbone", "head"], inner_lr=InnerLRGroup(lr=0.0)))


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


def test_initial_weights_and_inner_learning_rates_are_clipped_apart(learner):
    for p in learner.weights():
        p.grad = torch.full_like(p, 100.0)
    for p in learner.inner_lrs():
        p.grad = torch.full_like(p, 1e-3)
    outer = Outer(max_grad_norm=10.0)
    before = clip_meta_gradient(build_optimizer(learner, outer), outer)
    norm = torch.stack([p.grad.norm() for p in learner.weights()]).norm()
    assert norm.item() == pytest.approx(10, rel=1e-4)
    counts = {"weights": sum(p.numel() for p in learner.weights())}
    counts["inner_lr"] = sum(p.numel() for p in learner.inner_lrs())
    assert before["weights"].item() == pytest.approx(100 * counts["weights"] ** 0.5)
    assert before["inner_lr"].item() == pytest.approx(1e-3 * counts["inner_lr"] ** 0.5)
    assert all((p.grad == 1e-3).all() for p in learner.inner_lrs())


def test_frozen_weights_do_not_count_in_the_norm():
    learner = with_head()
    for p in learner.meta_parameters():
        p.grad = torch.full_like(p, 100.0)
    for p in learner.segmenter.head.parameters():
        p.grad = torch.full_like(p, 1e-3)
    outer = Outer(freeze=["backbone"], max_grad_norm=10.0)
    clip_meta_gradient(build_optimizer(learner, outer), outer)
    assert all((p.grad == 1e-3).all() for p in learner.segmenter.head.parameters())


def test_every_value_is_clipped_before_the_norm(learner):
    for p in learner.meta_parameters():
        p.grad = torch.linspace(-1, 1, p.numel(), dtype=p.dtype).reshape(p.shape)
    outer = Outer(max_grad_value=0.25)
    expected = [p.grad.clamp(-0.25, 0.25) for p in learner.meta_parameters()]
    clip_meta_gradient(build_optimizer(learner, outer), outer)
    assert all(torch.equal(p.grad, g) for p, g in zip(learner.meta_parameters(), expected, strict=True))
    both = Outer(max_grad_value=0.25, max_grad_norm=0.5)
    clip_meta_gradient(build_optimizer(learner, both), both)
    for parameters in (learner.weights(), learner.inner_lrs()):
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        assert norm.item() == pytest.approx(0.5, rel=1e-4)
        assert max(p.grad.max() for p in parameters) < 0.25


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("Adam", {"betas": [0.9]}), ("Adam", {"capturable": True}), ("SparseAdam", {}), ("LBFGS", {})],
)
def test_an_optimiser_that_could_not_step_is_refused_at_once(learner, name, arguments):
    with pytest.raises(UserError, match=f"torch.optim.{name} does not take"):
        build_optimizer(learner, Outer(optimizer=optimizer_settings(name, 0.1, **arguments)))


@pytest.mark.parametrize("min_lr_ratio", [None, 0.1])
def test_warm_up_rises_evenly_to_the_schedule_without_it(min_lr_ratio):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with_warmup, without = (
        build_schedule(optimizer, min_lr_ratio, 10, warmup).lr_lambdas[0] for warmup in (3, 0)
    )
    shares = [with_warmup(t) / without(t) for t in range(6)]
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
