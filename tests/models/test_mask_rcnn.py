"""The tiny Mask R-CNN: what it promises as a segmenter."""

import copy
import pickle
from typing import Any

import networks
import pytest
import torch
from learn2learn import clone_module, update_module
from torch import Tensor
from torchvision.ops import box_iou

from eosvos.errors import UserError
from eosvos.models.mask_rcnn import MaskRCNN
from eosvos.models.proposals import tight_boxes
from eosvos.models.roi_heads import Samples
from eosvos.seeding import isolated_rng

LOSSES = ["loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg"]
TINY: dict[str, Any] = {
    "min_size": None,
    "anchor_sizes": [14, 28, 48],
    "anchor_ratios": [0.6, 1.0, 1.6],
    "rpn_proposals_train": 50,
    "rpn_proposals_test": 50,
    "roi_samples": 32,
    "box_features": 128,
    "mask_roi": 14,
    "mask_channels": 32,
    "mask_layers": 2,
    "prior_proposals": 50,
}


def tiny(**options: Any) -> MaskRCNN:
    with isolated_rng("tiny mask r-cnn"):
        return networks.mask_rcnn(networks.tiny(), **TINY | options)


def frames(count: int = 1, size: tuple[int, int] = (96, 128)) -> tuple[Tensor, Tensor]:
    """A bright disc that moves two pixels a frame over noise: images [B, 3, H, W], masks [B, H, W]."""
    y, x = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    masks = torch.stack([((y - 45) ** 2 + (x - 50 - 2 * i) ** 2 < 400).to(torch.uint8) for i in range(count)])
    noise = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))
    return 0.4 * noise + 0.5 * masks[:, None], masks


def descend(model: MaskRCNN, images: Tensor, masks: Tensor, steps: int) -> MaskRCNN:
    with isolated_rng("descend"):
        for _ in range(steps):
            model.zero_grad()
            sum(model.losses(images, masks).values()).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.02 * parameter.grad
    return model


@pytest.fixture(scope="module")
def fitted() -> MaskRCNN:
    return descend(tiny(train_jitter=12), *frames(), steps=80)


def overlap(probability: Tensor, mask: Tensor) -> float:
    found, true = probability >= 0.5, mask == 1
    return float((found & true).sum() / (found | true).sum())


def test_losses_are_five_finite_scalars_that_reach_all_parameters() -> None:
    model = tiny()
    losses = model.losses(*frames(2))
    assert list(losses) == LOSSES
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    gradients = torch.autograd.grad(sum(losses.values()), list(model.parameters()), allow_unused=True)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("options", [{"mask_loss": "bce"}, {"variant": "torchvision"}, {"train_jitter": 12}])
def test_losses_of_other_choices_are_finite_and_differ(options: dict[str, Any]) -> None:
    with isolated_rng(0):
        usual = sum(tiny().losses(*frames()).values())
    with isolated_rng(0):
        other = sum(tiny(**options).losses(*frames()).values())
    assert other.isfinite()
    assert other != usual


def test_losses_repeat_with_the_generator_and_do_not_depend_on_the_mode() -> None:
    model = tiny(train_jitter=4)
    runs = []
    for mode in (True, False):
        model.train(mode)
        with isolated_rng("task", 3):
            runs.append(model.losses(*frames()))
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in LOSSES)


def test_mask_without_the_object_is_refused() -> None:
    images, masks = frames(2)
    masks[1] = 255
    with pytest.raises(ValueError, match="a mask shows no object"):
        tiny().losses(images, masks)


def test_ignored_pixels_matter_to_the_mask_loss_alone() -> None:
    images, masks = frames()
    ignoring = masks.clone()
    ignoring[0, 40:44, 62:66] = 255  # inside of the disc, so the box stays
    runs = []
    for labels in (masks, ignoring):
        with isolated_rng(1):
            runs.append(tiny().losses(images, labels))
    assert [name for name in LOSSES if not torch.equal(runs[0][name], runs[1][name])] == ["loss_mask"]


def test_ignored_pixels_have_no_gradient_in_the_mask_loss() -> None:
    images, masks = frames()
    masks[0, :45][masks[0, :45] == 1] = 255
    model = tiny()
    logits = torch.zeros(1, 28, 28, requires_grad=True)
    none = torch.zeros(1, dtype=torch.int64)
    model.roi_heads.training_samples = lambda *_: Samples(
        [torch.tensor([[20.0, 20.0, 80.0, 70.0]])], [none], [none + 1], [torch.zeros(1, 4)], [none]
    )
    model.roi_heads.mask_logits = lambda *_: logits
    model.losses(images, masks)["loss_mask"].backward()
    ys, xs = 20 + (torch.arange(28) + 0.5) * 50 / 28, 20 + (torch.arange(28) + 0.5) * 60 / 28
    disc = (ys[:, None] - 45) ** 2 + (xs - 50) ** 2
    gradient = logits.grad[0]
    assert not gradient[(disc < 324) & (ys[:, None] < 43)].any()
    assert gradient[(disc < 324) & (ys[:, None] > 47)].all()


def test_head_parameters_are_those_of_the_roi_heads() -> None:
    model = tiny()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = [names[id(parameter)] for parameter in model.head_parameters()]
    assert found == [name for name in names.values() if name.startswith("roi_heads.")]
    assert not model.second_order_everywhere


def test_segment_returns_the_probability_of_the_detection(fitted: MaskRCNN) -> None:
    images, masks = frames()
    prior = tight_boxes(masks == 1)[0]
    with torch.no_grad():
        features = fitted.features(images)
        with isolated_rng("detect"):
            found = fitted.detect(features, 0, prior)
        with isolated_rng("detect"):
            assert torch.equal(fitted.segment(features, 0, prior), found.probability)


def test_learns_one_frame_and_follows_the_object(fitted: MaskRCNN) -> None:
    images, masks = frames(4)
    with torch.no_grad(), isolated_rng("follow"):
        features = fitted.features(images)
        prior = tight_boxes(masks[:1] == 1)[0]
        for index in range(1, 4):
            found = fitted.detect(features, index, prior)
            assert overlap(found.probability, masks[index]) > 0.7
            assert found.score > 0.5
            assert box_iou(found.box[None], tight_boxes(masks[index : index + 1] == 1)) > 0.6
            prior = tight_boxes(found.probability[None] >= 0.5)[0]


def test_prediction_is_a_probability_inside_of_the_box(fitted: MaskRCNN) -> None:
    images, masks = frames()
    with torch.no_grad():
        found = fitted.detect(fitted.features(images), 0, tight_boxes(masks == 1)[0])
    assert found.probability.shape == (96, 128)
    assert found.probability.min() >= 0
    assert found.probability.max() <= 1
    xmin, ymin, xmax, ymax = found.box.tolist()
    inside = torch.zeros(96, 128, dtype=torch.bool)
    inside[max(int(ymin) - 2, 0) : int(ymax) + 3, max(int(xmin) - 2, 0) : int(xmax) + 3] = True
    assert not found.probability[~inside].any()


def test_many_frames_at_once_equal_one_at_a_time(fitted: MaskRCNN) -> None:
    images, masks = frames(3)
    prior = tight_boxes(masks[:1] == 1)[0]
    with torch.no_grad():
        together = fitted.features(images)
        assert len(together.proposals) == 3
        for index in range(3):
            with isolated_rng(index):
                batched = fitted.detect(together, index, prior)
            assert batched.score > 0
            with isolated_rng(index):
                alone = fitted.detect(fitted.features(images[index : index + 1]), 0, prior)
            torch.testing.assert_close(batched.probability, alone.probability, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(batched.box, alone.box, rtol=1e-4, atol=1e-3)
            torch.testing.assert_close(batched.score, alone.score, rtol=1e-4, atol=0)


def test_nothing_above_the_threshold_is_a_lost_object(fitted: MaskRCNN) -> None:
    images, masks = frames()
    model = tiny(score_threshold=1.0)
    model.load_state_dict(fitted.state_dict())
    with torch.no_grad():
        lost = model.detect(model.features(images), 0, tight_boxes(masks == 1)[0])
    assert lost.score == 0
    assert lost.probability.shape == (96, 128)
    assert not lost.probability.any()


def looked_at(model: MaskRCNN, prior: Tensor | None, redetect: bool = False) -> Tensor:
    """The boxes that enter the box head."""
    seen = []

    def detect(_: Any, boxes: Tensor, __: Any) -> tuple[Tensor, Tensor]:
        seen.append(boxes)
        return boxes, boxes.new_zeros(len(boxes))

    model.roi_heads.detect = detect
    with torch.no_grad():
        model.detect(model.features(frames()[0]), 0, prior, redetect)
    return seen[0]


@pytest.mark.parametrize(("mode", "jittered"), [("none", 0), ("extend", 25), ("replace", 50)])
def test_proposals_come_from_the_prior_as_configured(mode: str, jittered: int) -> None:
    prior = torch.tensor([30.0, 25.0, 70.0, 65.0])
    assert near(looked_at(tiny(proposals=mode), prior), prior) == jittered
    assert near(looked_at(tiny(proposals=mode), None), prior) == 0
    assert near(looked_at(tiny(proposals=mode), prior, redetect=True), prior) == 25


def near(boxes: Tensor, prior: Tensor) -> int:
    """How many boxes are the prior with its sides moved outwards by less than 4 pixels."""
    outwards = (boxes - prior) * torch.tensor([-1, -1, 1, 1])
    return int(((outwards >= 0) & (outwards < 4)).all(dim=1).sum())


def test_prior_and_box_are_in_pixels_of_the_image(fitted: MaskRCNN) -> None:
    images, masks = frames()
    twice = torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear")
    model = tiny(min_size=96, max_size=128)
    model.load_state_dict(fitted.state_dict())
    prior = 2 * tight_boxes(masks == 1)[0]
    with torch.no_grad():
        found = model.detect(model.features(twice), 0, prior)
    assert found.probability.shape == (192, 256)
    assert box_iou(found.box[None], prior[None]) > 0.6
    twice_mask = masks.repeat_interleave(2, 1).repeat_interleave(2, 2)[0]
    assert overlap(found.probability, twice_mask) > 0.7


@pytest.mark.parametrize(("select", "chosen"), [("score", 0), ("score_iou", 1)])
def test_select_weighs_the_overlap_with_the_prior(select: str, chosen: int) -> None:
    model = tiny(select=select)
    boxes = torch.tensor([[90.0, 60.0, 120.0, 90.0], [30.0, 20.0, 70.0, 70.0], [0.0, 0.0, 20.0, 20.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    model.roi_heads.detect = lambda *_: (boxes, scores)
    with torch.no_grad():
        features = model.features(frames()[0])
        found = model.detect(features, 0, torch.tensor([30.0, 20.0, 70.0, 65.0]))
        unknown = model.detect(features, 0)
    torch.testing.assert_close(found.box, boxes[chosen])
    assert found.score == scores[chosen]
    torch.testing.assert_close(unknown.box, boxes[0])


def test_jittered_true_boxes_join_the_training_proposals() -> None:
    images, masks = frames()
    box = tight_boxes(masks == 1)[0]
    counts = []
    for train_jitter in (0, 12):
        model = tiny(train_jitter=train_jitter)
        seen = []
        original = model.roi_heads.training_samples
        model.roi_heads.training_samples = lambda boxes, targets, s=seen, o=original: (
            s.append(boxes[0]) or o(boxes, targets)
        )
        model.losses(images, masks)
        counts.append(near(seen[0], box))
    assert counts[1] == counts[0] + 12


def test_gradients_pass_through_replaced_weights() -> None:
    model = tiny()
    images, masks = frames()
    adapted = clone_module(model)
    with isolated_rng("inner"):
        loss = sum(adapted.losses(images, masks).values())
        gradients = torch.autograd.grad(loss, list(adapted.parameters()), create_graph=False)
        adapted = update_module(adapted, updates=[-0.01 * gradient for gradient in gradients])
        query = sum(adapted.losses(images, masks).values())
    reached = torch.autograd.grad(query, list(model.parameters()))
    assert query < loss
    assert all(gradient.any() for gradient in reached[-4:])
    with torch.no_grad():
        before, after = (m.features(images).maps["0"] for m in (model, adapted))
    assert not torch.equal(before, after)


def test_copies_and_pickles_segment_alike(fitted: MaskRCNN) -> None:
    images, masks = frames()
    prior = tight_boxes(masks == 1)[0]
    predictions = []
    for twin in (fitted, copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        with torch.no_grad(), isolated_rng("twins"):
            predictions.append(twin.detect(twin.features(images), 0, prior))
    expected = predictions[0]
    assert expected.score > 0
    for found in predictions[1:]:
        assert torch.equal(found.probability, expected.probability)


def test_frozen_statistics_and_dropout_stay_still() -> None:
    backbone = networks.resnet("resnet18", norm="frozen_batch", fpn_channels=16)
    backbone.body.add_module("dropout", torch.nn.Dropout())
    model = tiny_on(backbone)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert before
    model.train()
    model.losses(*frames())
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert not any(m.training for m in model.modules() if isinstance(m, torch.nn.Dropout))
    assert model.rpn.training


def tiny_on(backbone: torch.nn.Module, **options: Any) -> MaskRCNN:
    return networks.mask_rcnn(backbone, **TINY | {"anchor_sizes": [8, 16, 32, 64, 128]} | options)


def test_features_of_another_segmenter_are_refused() -> None:
    other = networks.light_deeplab(networks.tiny(), channels=16)
    images, _ = frames()
    with pytest.raises(TypeError, match="its own features"), torch.no_grad():
        tiny().segment(other.features(images), 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_sizes": [8, 16]}, "^anchor_sizes has 2 entries, but the backbone has 3 pyramid levels"),
        ({"anchor_sizes": [[8, 16], [32], [64]]}, "^anchor_sizes must list as many sizes for every level"),
    ],
)
def test_anchors_that_do_not_fit_the_backbone_are_user_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(**options)


def test_head_norm_makes_the_heads_blind_to_the_scale_of_their_input():
    """Without it, a step of descent grows with the scale of the features, and from random weights fails."""
    pooled = torch.rand(5, 32, 7, 7, generator=torch.Generator().manual_seed(0))
    normed, plain = tiny(head_norm=True).roi_heads.box_head, tiny().roi_heads.box_head
    torch.testing.assert_close(normed(1e3 * pooled), normed(1e4 * pooled), rtol=1e-2, atol=1e-2)
    assert plain(1e4 * pooled).norm() > 9 * plain(1e3 * pooled).norm()


def test_boxes_keep_their_digits_under_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    anchors = [anchor.clone() for anchor in model.rpn.anchor_generator.cell_anchors]
    masks = torch.zeros(1, 96, 480, dtype=torch.uint8)
    masks[:, 31:67, 301:343] = 1  # Of odd numbers from 256 on, bfloat16 knows none.
    coder, seen = model.roi_heads.box_coder, []
    encode = coder.encode
    monkeypatch.setattr(coder, "encode", lambda true, others: seen.extend(true) or encode(true, others))
    with torch.autocast("cpu", dtype=torch.bfloat16), isolated_rng("autocast"):
        losses = model.losses(torch.rand(1, 3, 96, 480), masks)
        proposals = model.features(torch.rand(1, 3, 96, 480)).proposals[0]
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert (seen[0] == torch.tensor([301.0, 31.0, 343.0, 67.0])).all(1).any()
    assert proposals.dtype == torch.float32
    after = model.rpn.anchor_generator.cell_anchors
    assert all(torch.equal(old, new) for old, new in zip(anchors, after, strict=True))


def two_objects() -> tuple[Tensor, Tensor]:
    """An image with a disc, 3, and a square, 9: image [1, 3, H, W], mask [1, H, W]."""
    images, masks = frames()
    masks = masks * 3
    masks[0, 60:90, 85:120] = 9
    return images, masks


def test_all_objects_of_a_frame_are_targets_each_with_its_own_mask() -> None:
    images, masks = two_objects()
    model, seen = tiny(), {}

    def boxes_on(proposals: Any, targets: Any) -> Any:
        seen.update(targets[0])
        boxes = torch.stack([targets[0]["boxes"][i] for i in (1, 0, 1)])
        labels = torch.ones(3, dtype=torch.int64)
        return Samples([boxes], [torch.tensor([1, 0, 1])], [labels], [torch.zeros(3, 4)], [torch.arange(3)])

    def note(logits: Tensor, labels: Tensor) -> Tensor:
        seen["mask_labels"] = labels
        return logits.sum()

    model.roi_heads.training_samples, model.roi_heads.mask_loss = boxes_on, note
    model.losses(images, masks)
    assert torch.equal(seen["boxes"], tight_boxes(torch.stack((masks[0] == 3, masks[0] == 9))))
    square, disc, again = seen["mask_labels"]
    assert torch.equal(square, again)
    assert square.mean() > 0.95, "its box is full of the square"
    assert 0.7 < disc.mean() < 0.85, "a disc covers pi / 4 of its box"


def test_the_number_of_an_object_makes_no_difference() -> None:
    images, masks = frames()
    with isolated_rng("one"):
        one = tiny().losses(images, masks)
    with isolated_rng("one"):
        other = tiny().losses(images, masks * 200)
    assert all(torch.equal(one[name], other[name]) for name in LOSSES)


@pytest.mark.parametrize("proposals", ["extend", "none"])
def test_without_a_proposal_nothing_is_found(proposals: str) -> None:
    """The RPN of a network that has diverged moves all of its boxes out of the picture."""
    model = tiny(proposals=proposals)
    with torch.no_grad():
        model.rpn.head.bbox_pred.bias.fill_(50)
        features = model.features(torch.rand(1, 3, 96, 128))
        assert len(features.proposals[0]) == 0
        found = model.detect(features, 0, None)
    assert found.probability.shape == (96, 128)
    assert not found.probability.any()
    assert found.score == 0
