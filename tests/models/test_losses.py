"""Losses against the published system's numbers, closed forms and plain loops; degenerate input."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from eosvos.models.losses import bce, class_balanced_bce, dice, lovasz_hinge
from eosvos.models.semantic import LOSSES

PIXEL_LOSSES = {"bce": bce, "class_balanced": class_balanced_bce, "dice": dice}

VARIANTS = {
    "dice": dice,
    "dice_nobatchavg": lambda x, y: dice(x, y, per_image=True),
    "cbce": class_balanced_bce,
    "cbce_nosize": lambda x, y: class_balanced_bce(x, y, size_average=False),
    "cbce_nobatchavg": lambda x, y: class_balanced_bce(x, y, per_image=True),
}

PUBLISHED = (("dice", "dice"), ("class_balanced", "cbce"))
CHOICES = {"dice_bce": ["dice", "bce"]} | {name: [name] for name in ("dice", "bce", "class_balanced")}


def check_golden(loss_function, logits, labels, loss, gradient):
    logits = torch.as_tensor(logits).requires_grad_()
    value = loss_function(logits, torch.as_tensor(labels))
    value.backward()
    assert value.item() == pytest.approx(float(loss), rel=1e-6)
    np.testing.assert_allclose(
        logits.grad.numpy(), gradient, rtol=1e-5, atol=1e-7 * np.abs(gradient).max() + 2e-8
    )


@pytest.mark.parametrize("case", ["c0", "c1"])
def test_lovasz_equals_published(goldens, case):
    golden = np.load(goldens / "losses/lovasz.npz")
    check_golden(lovasz_hinge, *(golden[f"{case}_{key}"] for key in ("logits", "labels", "loss", "grad")))


@pytest.mark.parametrize("case", ["c0", "c1"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_dice_and_balanced_equal_published(goldens, case, variant):
    golden = np.load(goldens / "losses/dice_cbce.npz")
    logits, labels = golden[f"{case}_logits"], golden[f"{case}_labels"]
    check_golden(
        VARIANTS[variant], logits, labels, golden[f"{case}_{variant}_loss"], golden[f"{case}_{variant}_grad"]
    )


@pytest.mark.parametrize("case", ["c0", "c1"])
@pytest.mark.parametrize("choice", LOSSES)
def test_what_loss_chooses_is_a_sum_of_published_losses_and_torchs(goldens, case, choice):
    """Published dice and balanced cross-entropy, torch's cross-entropy; with a row of ignored pixels."""
    golden = np.load(goldens / "losses/dice_cbce.npz")
    given, labels = (torch.tensor(golden[f"{case}_{key}"]) for key in ("logits", "labels"))
    given.requires_grad_()
    plain = torch.nn.functional.binary_cross_entropy_with_logits(given, labels)
    (gradient,) = torch.autograd.grad(plain, given)
    parts = {name: [golden[f"{case}_{key}_{part}"] for part in ("loss", "grad")] for name, key in PUBLISHED}
    parts["bce"] = [plain.item(), gradient.numpy()]
    loss, gradient = map(sum, zip(*(parts[name] for name in CHOICES[choice]), strict=True))
    rows = [(given.detach(), 7.0), (labels, 255), (torch.tensor(gradient), 0)]
    logits, labels, gradient = (torch.nn.functional.pad(x, (0, 0, 1, 0), value=value) for x, value in rows)
    check_golden(lambda x, y: sum(f(x, y) for f in LOSSES[choice]), logits, labels, loss, gradient.numpy())


def plain_lovasz(logits, labels):
    """One region, pixel by pixel, as the paper writes it: Jaccard loss of the growing set of wrong pixels."""
    pairs = [(1 - x * (2 * y - 1), y) for x, y in zip(logits, labels, strict=True) if y != 255]
    pairs.sort(key=lambda pair: -pair[0])
    total, seen, others, before, loss = sum(y for _, y in pairs), 0.0, 0.0, 0.0, 0.0
    for error, y in pairs:
        seen, others = seen + y, others + 1 - y
        jaccard = 1 - (total - seen) / (total + others)
        loss, before = loss + max(error, 0.0) * (jaccard - before), jaccard
    return loss


labels_in_range = st.sampled_from([0.0, 0.25, 0.7, 1.0, 255.0])
regions = st.lists(st.tuples(st.floats(-9, 9), labels_in_range), min_size=4, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(regions, max_size=3))
def test_lovasz_equals_plain_loop_on_any_regions(drawn):
    values = torch.tensor(drawn, dtype=torch.float64).reshape(-1, 2, 2, 2)
    logits, labels = values[..., 0].requires_grad_(), values[..., 1].detach()
    loss = lovasz_hinge(logits, labels)
    expected = sum(plain_lovasz(*zip(*region, strict=True)) for region in drawn) / max(len(drawn), 1)
    assert loss.item() == pytest.approx(expected, abs=1e-9)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert (gradient[labels == 255] == 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(regions, max_size=3), st.sampled_from(sorted(PIXEL_LOSSES)))
def test_semantic_losses_leave_ignored_pixels_out(drawn, name):
    values = torch.tensor(drawn, dtype=torch.float64).reshape(-1, 4, 2)
    logits, labels = values[..., 0].requires_grad_(), values[..., 1].detach()
    loss = PIXEL_LOSSES[name](logits, labels)
    kept = labels != 255
    assert loss.item() == pytest.approx(
        PIXEL_LOSSES[name](logits[kept][None], labels[kept][None]).item(), abs=1e-9
    )
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert (gradient[~kept] == 0).all()


def test_lovasz_of_hard_labels_interpolates_the_jaccard_loss():
    """Where every error is 0 or 1, the extension is the Jaccard loss of the set of wrong pixels itself."""
    labels = torch.tensor([[[1.0, 1, 1, 0, 0, 0]]])
    wrong = torch.tensor([[[0.0, 1, 0, 1, 1, 0]]])
    logits = (1 - wrong) * (2 * labels - 1)
    assert lovasz_hinge(logits, labels).item() == pytest.approx(3 / 5)


def test_lovasz_gradient_passes_neither_through_order_nor_weights():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64)
    labels[0, 0] = 255
    assert gradcheck(lambda x: lovasz_hinge(x, labels), logits)
    (gradient,) = torch.autograd.grad(lovasz_hinge(logits, labels), logits, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), logits)
    assert second.eq(0).all()


def test_no_region_and_nothing_counted_give_zero_with_a_graph():
    for shape, label in (((0, 4, 4), 0.0), ((2, 4, 4), 255.0)):
        logits = torch.randn(shape, requires_grad=True)
        loss = lovasz_hinge(logits, torch.full(shape, label))
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.eq(0).all()


def test_region_with_nothing_left_counts_in_the_average():
    logits, labels = torch.full((1, 2, 2), -1.0), torch.ones(1, 2, 2)
    both = torch.cat([labels, torch.full_like(labels, 255)])
    assert lovasz_hinge(logits.repeat(2, 1, 1), both) == lovasz_hinge(logits, labels) / 2


@pytest.mark.parametrize("name", sorted(PIXEL_LOSSES))
def test_semantic_losses_have_first_and_second_derivatives(name):
    logits = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = (logits > 0.3).to(torch.uint8)
    labels[0, 0, 0, 0] = 255
    logits.requires_grad_()
    assert gradcheck(lambda x: PIXEL_LOSSES[name](x, labels), logits)
    assert gradgradcheck(lambda x: PIXEL_LOSSES[name](x, labels), logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("loss", [lovasz_hinge, *PIXEL_LOSSES.values()])
def test_logits_of_16_bits_cost_no_more_than_their_own_digits(loss, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 56, 56, generator=generator).to(dtype)
    labels = torch.rand(2, 56, 56, generator=generator)
    labels[0, :9] = 255
    given = [logits.clone().requires_grad_(), logits.float().requires_grad_()]
    losses = [loss(x, labels) for x in given]
    rough, exact = (torch.autograd.grad(*pair)[0].float() for pair in zip(losses, given, strict=True))
    assert losses[0] == losses[1]
    assert (rough - exact).norm() < 0.005 * exact.norm()


def test_sums_and_closed_forms():
    logits, labels = torch.zeros(2, 1, 2, 2), torch.tensor([1, 0, 0, 0] * 2).reshape(2, 1, 2, 2)
    assert bce(logits, labels).item() == pytest.approx(np.log(2))
    assert dice(logits, labels).item() == pytest.approx(1 - 3 / 7)
    assert class_balanced_bce(logits, labels).item() == pytest.approx(2 * 0.75 * 0.25 * np.log(2))
