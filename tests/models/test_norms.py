"""Norms that replace batch norms: what they take over, and that their statistics never move."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import nn
from torch.autograd import gradgradcheck
from torchvision.ops import FrozenBatchNorm2d

from eosvos.errors import UserError
from eosvos.models.norms import FrozenBatchNorm, group_count, group_norm, replace_norms


def filled(norm):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return norm


NORMS = {
    "torch": lambda c: nn.BatchNorm2d(c, eps=1e-3),
    "torchvision": FrozenBatchNorm2d,
    "timm": lambda c: BatchNormAct2d(c, eps=1e-3),
}


@pytest.mark.parametrize("kind", NORMS)
def test_group32_takes_over_weight_and_bias_and_nothing_else(kind):
    old = filled(NORMS[kind](64))
    net = replace_norms(nn.Sequential(nn.Conv2d(3, 64, 1), nn.Sequential(copy.deepcopy(old))), "group32")
    new = net[1][0]
    assert isinstance(new, nn.GroupNorm)
    assert new.num_groups == 32
    assert new.weight.equal(old.weight)
    assert new.bias.equal(old.bias)
    assert list(net.buffers()) == []
    assert [name for name, _ in new.named_parameters()] == ["weight", "bias"]
    x = torch.randn(2, 64, 5, 5)
    expected = nn.functional.group_norm(x, 32, old.weight, old.bias)
    assert torch.allclose(new(x), expected.relu() if kind == "timm" else expected)


@pytest.mark.parametrize("kind", NORMS)
def test_frozen_batch_equals_the_batch_norm_in_eval_mode_for_ever(kind):
    old = filled(NORMS[kind](6)).eval()
    new = replace_norms(copy.deepcopy(old), "frozen_batch").train()
    x = 3 * torch.randn(2, 6, 5, 5)
    before = [buffer.clone() for buffer in new.buffers()]
    assert torch.allclose(new(x), old(x), atol=1e-5)
    assert all(a.equal(b) for a, b in zip(before, new.buffers(), strict=True))
    assert all(parameter.requires_grad for parameter in new.parameters())
    clone = pickle.loads(pickle.dumps(copy.deepcopy(new)))
    assert clone(x).equal(new(x))


def test_frozen_batch_has_second_derivatives():
    norm = FrozenBatchNorm(torch.rand(3).double(), torch.rand(3).double() + 0.5, eps=1e-5)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(lambda x, *_: norm(x).pow(3), (x, *norm.parameters()))


def test_batch_norm_without_affine_parameters_becomes_one_with_ones_and_zeros():
    norm = replace_norms(nn.BatchNorm2d(8, affine=False), "group_auto")
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()


@given(st.integers(1, 2048))
def test_group_count_divides_and_leaves_two_channels_a_group(channels):
    groups = group_count(channels)
    assert channels % groups == 0
    assert 1 <= groups <= 32
    assert groups == 1 or channels // groups >= 2
    assert groups == 32 or channels % 64
    assert group_norm(channels).num_channels == channels


def test_channels_that_32_does_not_divide_are_refused():
    with pytest.raises(UserError, match=r"24.*group_auto"):
        replace_norms(nn.Sequential(nn.BatchNorm2d(24)), "group32")
