"""An encoder that is not adapted sees each batch and frame once, and all is as without that."""

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat

import pytest
import torch
from torch import Tensor

from eosvos.config import models as config
from eosvos.config.data import Synthetic
from eosvos.config.inference import Finetune, Online
from eosvos.config.meta import InnerLR
from eosvos.data.synthetic import SyntheticVideo
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.models.backbones import tiny_backbone
from eosvos.models.light_deeplab import LightDeepLab
from eosvos.models.mask_rcnn import MaskRCNN
from eosvos.models.segmenter import FrozenMaps
from eosvos.seeding import isolated_rng

DETECTOR = config.MaskRCNN(
    weights="none",
    min_size=None,
    anchor_sizes=[14, 28, 48],
    rpn_proposals_train=20,
    rpn_proposals_test=20,
    prior_proposals=20,
    roi_samples=16,
    box_features=16,
    mask_roi=7,
    mask_channels=8,
    mask_layers=1,
    score_threshold=0,
)
VIDEO = SyntheticVideo(2, Synthetic(size=[48, 64], num_frames=6, max_objects=2))


def learner(network: str, train_encoder: bool = False) -> MetaLearner:
    with isolated_rng("weights"):
        backbone = tiny_backbone(config.TinyBackbone(width=8, fpn_channels=16, levels=3))
        segmenter = (
            MaskRCNN(backbone, DETECTOR)
            if network == "mask_rcnn"
            else LightDeepLab(backbone, config.LightDeepLab(channels=16))
        )
        return MetaLearner(segmenter, InnerLR(init=0.01), train_encoder=train_encoder)


@contextmanager
def counted(one: MetaLearner) -> Iterator[list[int]]:
    """How many images the encoder sees in each of its passes."""
    seen: list[int] = []
    hook = one.segmenter.backbone.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    yield seen
    hook.remove()


def without(one: MetaLearner) -> MetaLearner:
    one.segmenter.frozen_maps = None
    return one


def batch(t: int) -> tuple[Tensor, Tensor]:
    return VIDEO.image(t)[None].float() / 255, (VIDEO.mask(t)[None] == 1).to(torch.uint8)


@pytest.mark.parametrize("network", ["mask_rcnn", "light_deeplab"])
def test_a_task_is_encoded_once_for_all_inner_steps_and_queries(network: str) -> None:
    found = []
    for one in (learner(network), without(learner(network))):
        with counted(one) as seen, isolated_rng("task"):
            result = one.meta_gradient(repeat(batch(0), 3), [batch(3), batch(5)], [0.5, 0, 0.5])
        found.append((result, len(seen)))
    (result, passes), (expected, all_passes) = found
    assert (passes, all_passes) == (3, 7)
    assert torch.equal(result.support_losses, expected.support_losses)
    assert all(torch.equal(a, b) for a, b in zip(result.gradients, expected.gradients, strict=True))


@pytest.mark.parametrize("network", ["mask_rcnn", "light_deeplab"])
def test_a_frame_is_encoded_once_for_all_objects_and_steps(network: str) -> None:
    online = Online(every=3, steps=3, batch_size=2)
    finetune = Finetune(steps=3, batch_size=2, augment=False, feature_batch_size=2, online=online)
    assert VIDEO.object_ids == (1, 2)
    found = []
    for one in (learner(network), without(learner(network))):
        with counted(one) as seen:
            labels = [mask for _, mask in Predictor(one, finetune).segment(VIDEO)]
        found.append((torch.stack(labels), seen))
    (labels, seen), (expected, all_seen) = found
    assert torch.equal(labels, expected)
    # Of each object a batch of two copies, and one of an adaptation online; frames in chunks of 2, 1 and 2.
    assert sorted(seen[:2] + seen[-1:]) == [2, 2, 2]
    assert len(seen) == 2 + 2 + 2 + 1
    assert len(all_seen) == 2 * (3 + 3 + 3)


def test_a_copy_that_is_used_again_is_encoded_once() -> None:
    one = learner("light_deeplab")
    finetune = Finetune(steps=6, batch_size=2, distinct_copies=4, feature_batch_size=5)
    with counted(one) as seen:
        list(Predictor(one, finetune).segment(VIDEO))
    # Of each object two batches; frames in one chunk.
    assert seen == [2, 2] * 2 + [5]


def test_an_encoder_that_is_adapted_is_not_shared_and_copies_begin_anew() -> None:
    assert learner("mask_rcnn", train_encoder=True).segmenter.frozen_maps is None
    maps = FrozenMaps()
    image = torch.zeros(1, 3, 8, 8)
    maps[image] = {"0": torch.zeros(1)}
    assert image in maps
    assert not len(copy.deepcopy(maps))
    assert not len(pickle.loads(pickle.dumps(maps)))
    del image
    assert not len(maps)
