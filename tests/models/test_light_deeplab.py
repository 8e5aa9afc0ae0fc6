"""LightDeepLab behind the interface that all segmenters share."""

import copy
import pickle

import networks
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learn2learn.utils import clone_module, update_module
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

from eosvos.models.backbones import TinyEncoder
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.light_deeplab import ASPP
from eosvos.models.losses import bce, dice
from eosvos.models.segmenter import Features
from eosvos.models.semantic import LOSSES


def make(**options):
    torch.manual_seed(0)
    return networks.light_deeplab(networks.tiny(width=8), **{"channels": 8} | options)


def example(height=32, width=48, batch=1):
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(batch, height, width, dtype=torch.uint8)
    masks[:, height // 4 : height // 2, width // 3 : width // 2] = 1
    images[:, 0] += masks
    return images.clamp(0, 1), masks


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (17, 90)])
def test_logits_lie_at_the_finest_stride_of_any_size(height, width):
    images, masks = example(height, width, batch=2)
    segmenter = make()
    assert segmenter(images).shape == (2, 1, -(-height // 4), -(-width // 4))
    assert all(loss.ndim == 0 and loss.isfinite() for loss in segmenter.losses(images, masks).values())
    probability = segmenter.segment(segmenter.features(images), 1)
    assert probability.shape == (height, width)


def test_losses_are_those_of_the_logits_at_image_size():
    images, masks = example()
    masks[0, 0] = 255
    segmenter = make()
    logits = torch.nn.functional.interpolate(segmenter(images), size=(32, 48), mode="bilinear")
    losses = segmenter.losses(images, masks)
    assert losses == {"loss_dice": dice(logits, masks[:, None]), "loss_bce": bce(logits, masks[:, None])}
    single = {loss: list(make(loss=loss).losses(images, masks)) for loss in ("dice", "bce", "class_balanced")}
    assert single == {
        "dice": ["loss_dice"],
        "bce": ["loss_bce"],
        "class_balanced": ["loss_class_balanced_bce"],
    }


def test_ignored_pixels_have_no_gradient():
    images, masks = example()
    masks[:, :, 24:] = 255
    segmenter = make()
    logits = segmenter(images).detach().requires_grad_()
    segmenter.forward = lambda _: logits
    (gradient,) = torch.autograd.grad(sum(segmenter.losses(images, masks).values()), logits)
    assert gradient[..., :5].ne(0).any()
    assert gradient[..., 7:].eq(0).all()


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_mask_may_show_no_object_or_nothing_else(value, loss):
    images, masks = example(batch=2)
    segmenter = make(loss=loss)
    assert segmenter.semantic
    total = sum(segmenter.losses(images, torch.full_like(masks, value)).values())
    gradients = torch.autograd.grad(total, list(segmenter.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    moves = any(gradient.any() for gradient in gradients)
    # Object and background weigh the same in class_balanced: nothing, where either is missing.
    assert moves == (value != 255 and loss != "class_balanced")


def test_segment_gives_zeros_where_no_pixel_reaches_the_threshold():
    logits = torch.full((2, 1, 8, 10), -4.0)
    logits[1, 0, 2:5, 3:9] = 4
    segmenter, features = make(), Features({"logits": logits}, (8, 10))
    lost = segmenter.segment(features, 0, prior=torch.tensor([1.0, 1, 4, 4]), redetect=True)
    assert lost.eq(0).all()
    assert segmenter.segment(features, 1).equal(logits[1, 0].sigmoid())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(-6, 6))
def test_any_logits_give_probabilities(seed, shift):
    logits = torch.randn(1, 1, 3, 5, generator=torch.Generator().manual_seed(seed)) * 4 + shift
    probability = make().segment(Features({"logits": logits}, (11, 19)), 0)
    assert probability.shape == (11, 19)
    assert ((probability >= 0) & (probability <= 1)).all()
    resized = torch.nn.functional.interpolate(logits, size=(11, 19), mode="bilinear")[0, 0].sigmoid()
    expected = resized if resized.max() >= 0.5 else torch.zeros(11, 19)
    assert probability.equal(expected)


def test_features_of_many_frames_equal_those_of_each():
    images, _ = example(batch=3)
    segmenter = make()
    together = segmenter.features(images)
    assert len(together.maps["logits"]) == 3
    alone = torch.cat([segmenter.features(image[None]).maps["logits"] for image in images])
    assert torch.allclose(together.maps["logits"], alone, atol=1e-5)


def test_min_and_max_size_bound_what_is_computed_not_what_is_returned():
    images, masks = example(64, 96)
    for options, rows, columns in (
        ({"min_size": 32}, 8, 12),
        ({"min_size": 32, "max_size": 36}, 6, 9),
        ({"max_size": 48}, 8, 12),
        ({"max_size": 192}, 16, 24),
        ({"min_size": 128}, 32, 48),
    ):
        segmenter = make(**options)
        assert segmenter(images).shape == (1, 1, rows, columns)
        assert segmenter.segment(segmenter.features(images), 0).shape == (64, 96)
        assert segmenter.losses(images, masks)["loss_bce"].isfinite()


def test_sgd_fits_one_mask():
    images, masks = example()
    segmenter = make(channels=16)
    optimizer = torch.optim.Adam(segmenter.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        sum(segmenter.losses(images, masks).values()).backward()
        optimizer.step()
    mask = segmenter.segment(segmenter.features(images), 0) >= 0.5
    assert (mask & (masks[0] == 1)).sum() / (mask | (masks[0] == 1)).sum() > 0.8


def test_copies_and_pickles_compute_the_same():
    images, masks = example()
    segmenter = make()
    expected = segmenter.losses(images, masks)
    for other in (copy.deepcopy(segmenter), pickle.loads(pickle.dumps(segmenter)), clone_module(segmenter)):
        assert other.losses(images, masks) == expected


def test_no_buffers_and_every_parameter_has_a_gradient():
    segmenter = make()
    assert list(segmenter.buffers()) == []
    assert len(segmenter.head_parameters()) == len(list(segmenter.parameters()))
    loss = sum(segmenter.losses(*example()).values())
    gradients = torch.autograd.grad(loss, segmenter.head_parameters())
    assert all(g.isfinite().all() and g.ne(0).any() for g in gradients)


def test_tiny_form_has_the_weights_to_learn_with():
    segmenter = networks.light_deeplab(networks.tiny())
    assert sum(p.numel() for p in segmenter.parameters()) >= 200_000


def test_second_derivatives_exist_and_are_right():
    torch.manual_seed(0)
    backbone = BackboneWithFPN(TinyEncoder(width=2, levels=2), (2, 4), (4, 8), 2)
    segmenter = networks.light_deeplab(backbone, channels=2, dilations=[1]).double()
    images, masks = example(16, 16)
    names = ["backbone.stem.0.weight", "decoder.logits.weight", "pooling.project.1.weight"]
    parameters = [dict(segmenter.named_parameters())[name].detach().requires_grad_() for name in names]

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = segmenter

        def forward(self):
            return sum(self.inner.losses(images.double(), masks).values())

    def loss(*values):
        given = {f"inner.{name}": value for name, value in zip(names, values, strict=True)}
        return functional_call(Sum(), given, ())

    assert gradcheck(loss, parameters)
    assert gradgradcheck(loss, parameters)


def test_full_second_order_adaptation_reaches_every_initial_weight():
    images, masks = example()
    segmenter = make()
    clone = clone_module(segmenter)
    loss = sum(clone.losses(images, masks).values())
    gradients = torch.autograd.grad(loss, list(clone.parameters()), create_graph=True)
    update_module(clone, [-0.1 * g for g in gradients])
    query = sum(clone.losses(images, masks).values())
    full = torch.autograd.grad(query, list(segmenter.parameters()))
    first = torch.autograd.grad(
        sum(clone.losses(images, masks).values()), list(clone.parameters()), retain_graph=True
    )
    assert all(g.isfinite().all() for g in full)
    assert not torch.allclose(full[0], first[0])


def test_works_on_a_pretrained_kind_of_backbone_without_touching_its_statistics():
    backbone = networks.timm("mobilenetv3_small_050", fpn_channels=8)
    segmenter = networks.light_deeplab(backbone, channels=8)
    before = [buffer.clone() for buffer in segmenter.buffers()]
    assert before
    images, masks = example(64, 64)
    sum(segmenter.losses(images, masks).values()).backward()
    assert all(a.equal(b) for a, b in zip(before, segmenter.buffers(), strict=True))
    assert not any(name.startswith("fpn") for name, _ in segmenter.named_parameters())


def test_aspp_reaches_as_far_as_its_dilation():
    torch.manual_seed(0)
    aspp = ASPP(2, 4, dilations=[3])
    assert aspp.views[1][0].dilation == (3, 3)
    assert aspp(torch.rand(1, 2, 9, 9)).shape == (1, 4, 9, 9)
    assert aspp(torch.rand(1, 2, 1, 1)).isfinite().all()


def test_several_objects_are_learned_as_their_union():
    images, masks = example()
    numbered = masks.clone()
    numbered[:, : masks.shape[1] // 2] *= 7
    segmenter = make()
    one, other = segmenter.losses(images, masks), segmenter.losses(images, numbered)
    assert numbered.max() == 7
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("margin", [0.25, 0.0])
def test_the_gate_keeps_the_mask_near_the_box_before_until_the_object_is_lost(margin):
    logits = torch.full((1, 1, 20, 40), 3.0)
    features, prior = Features({"logits": logits}, (20, 40)), torch.tensor([8.0, 6, 24, 14])
    gated = make(prior="gate", gate_margin=margin)
    inside = torch.zeros(20, 40, dtype=torch.bool)
    inside[6 - int(margin * 8) : 14 + int(margin * 8), 8 - int(margin * 16) : 24 + int(margin * 16)] = True
    assert torch.equal(gated.segment(features, 0, prior) > 0, inside)
    everywhere = logits[0, 0].sigmoid()
    assert torch.equal(gated.segment(features, 0, prior, redetect=True), everywhere)
    assert torch.equal(gated.segment(features, 0), everywhere)
    assert torch.equal(make().segment(features, 0, prior), everywhere)


def test_an_object_that_is_nowhere_near_its_box_is_lost():
    logits = torch.full((1, 1, 20, 40), -3.0)
    logits[..., 30:] = 3
    features, prior = Features({"logits": logits}, (20, 40)), torch.tensor([2.0, 6, 10, 14])
    assert not make(prior="gate").segment(features, 0, prior).any()
