"""Shapes, initial values and bounds of learned rates."""

import math

import pytest
import torch
from torch import nn

from eosvos.meta.learning_rates import Rate, RateConfig, rate_transform

SHAPES = {
    "single": ((), ()),
    "tensor": ((), ()),
    "neuron": ((4, 1, 1, 1), (4,)),
    "param": ((4, 3, 3, 3), (4,)),
}


@pytest.mark.parametrize("level", SHAPES)
@pytest.mark.parametrize("log", [False, True])
def test_rates_have_one_value_per_unit_of_their_level(level, log):
    transform = rate_transform(RateConfig(level=level, init=0.02, log=log))
    convolution = nn.Conv2d(3, 4, 3)
    rates = [transform(p) for p in convolution.parameters()]
    assert tuple(tuple(r.value.shape) for r in rates) == SHAPES[level]
    values = torch.cat([r.rate().reshape(-1) for r in rates])
    assert (values >= 0.01 - 1e-7).all()
    assert (values < 0.03).all()
    if level == "single":
        assert rates[0].value is rates[1].value
        assert values[0].item() == pytest.approx(0.02)


def test_neuron_rates_of_a_linear_layer_scale_its_rows():
    transform = rate_transform(RateConfig(level="neuron", init=1.0))
    rate = transform(nn.Linear(2, 3).weight)
    rate.value.data = torch.tensor([[1.0], [2.0], [3.0]])
    assert rate(torch.ones(3, 2)).tolist() == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.parametrize(("clip", "expected"), [(None, [0.3, 0.4]), (1.0, [0.06, 0.08]), (5.0, [0.3, 0.4])])
def test_a_gradient_above_the_largest_norm_is_scaled_down_to_it(clip, expected):
    rate = rate_transform(RateConfig(level="single", init=0.1, clip=clip))(nn.Parameter(torch.zeros(2)))
    torch.testing.assert_close(rate(torch.tensor([3.0, 4.0])).detach(), torch.tensor(expected))


def test_frozen_parameters_have_no_rate():
    assert rate_transform(RateConfig())(nn.Parameter(torch.zeros(2), requires_grad=False)) is None


@pytest.mark.parametrize(("log", "lowest"), [(False, 0.0), (True, 1e-12)])
def test_clamped_rates_stay_within_their_bounds(log, lowest):
    values = torch.tensor([-40.0, math.log(0.2), 3.0]) if log else torch.tensor([-1.0, 0.2, 3.0])
    rate = Rate(nn.Parameter(values), log)
    rate.clamp_(0.3)
    torch.testing.assert_close(rate.rate().detach(), torch.tensor([lowest, 0.2, 0.3]))
    rate.clamp_(None)
    assert rate.rate().max().item() == pytest.approx(0.3)


@pytest.mark.parametrize("bad", [dict(level="layer"), dict(init=0.0), dict(init=0.5, max=0.1)])
def test_impossible_rates_are_refused(bad):
    with pytest.raises(ValueError, match=r"level|init"):
        RateConfig(**bad)
