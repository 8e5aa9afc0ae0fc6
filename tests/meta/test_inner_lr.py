"""Shapes, initial values and bounds of inner learning rates."""

import math

import pytest
import torch
from torch import nn

from eosvos.config.meta import InnerLR
from eosvos.meta.inner_lr import LearningRate, lr_transform

SHAPES = {
    "single": ((), ()),
    "tensor": ((), ()),
    "neuron": ((4, 1, 1, 1), (4,)),
    "param": ((4, 3, 3, 3), (4,)),
}


def learning_rates(module: nn.Module, **settings) -> list[LearningRate | None]:
    """The learning rate of each parameter of a module."""
    transform = lr_transform(InnerLR(**settings))
    return [transform(p) for p in module.parameters()]


@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("log", [False, True])
def test_inner_learning_rates_have_one_value_per_unit_of_their_level(level, log):
    weight, bias = learning_rates(nn.Conv2d(3, 4, 3), level=level, init=0.02, log=log)
    assert (tuple(weight.value.shape), tuple(bias.value.shape)) == SHAPES[level]
    values = torch.cat([weight.lr().reshape(-1), bias.lr().reshape(-1)])
    assert (values >= 0.01 - 1e-7).all()
    assert (values < 0.03).all()
    if level == "single":
        assert weight.value is bias.value
        assert values[0].item() == pytest.approx(0.02)


def test_learning_rates_per_neuron_of_a_linear_layer_scale_its_rows():
    weight, _ = learning_rates(nn.Linear(2, 3), level="neuron", init=1.0)
    weight.value.data = torch.tensor([[1.0], [2.0], [3.0]])
    assert weight(torch.ones(3, 2)).tolist() == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.parametrize(
    ("max_grad_norm", "expected"), [(None, [0.3, 0.4]), (1.0, [0.06, 0.08]), (5.0, [0.3, 0.4])]
)
def test_a_gradient_above_the_largest_norm_is_scaled_down_to_it(max_grad_norm, expected):
    parameters = nn.ParameterList([torch.zeros(2)])
    [learning_rate] = learning_rates(parameters, level="single", init=0.1, max_grad_norm=max_grad_norm)
    torch.testing.assert_close(learning_rate(torch.tensor([3.0, 4.0])).detach(), torch.tensor(expected))


def test_frozen_parameters_have_no_learning_rate():
    assert learning_rates(nn.Linear(2, 3).requires_grad_(False)) == [None, None]


@pytest.mark.parametrize(("log", "lowest"), [(False, 0.0), (True, 1e-12)])
def test_clamped_learning_rates_stay_within_their_bounds(log, lowest):
    values = torch.tensor([-40.0, math.log(0.2), 3.0]) if log else torch.tensor([-1.0, 0.2, 3.0])
    learning_rate = LearningRate(nn.Parameter(values), log)
    learning_rate.clamp_(0.3)
    torch.testing.assert_close(learning_rate.lr().detach(), torch.tensor([lowest, 0.2, 0.3]))
    learning_rate.clamp_(None)
    assert learning_rate.lr().max().item() == pytest.approx(0.3)


@pytest.mark.parametrize("bad", [dict(level="layer"), dict(init=0.0), dict(init=0.5, max=0.1)])
def test_impossible_inner_learning_rates_are_refused(bad):
    with pytest.raises(ValueError, match=r"level|init"):
        InnerLR(**bad)
