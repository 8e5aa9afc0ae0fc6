"""What networks see of pixels: normalised as their backbone wants them, reduced by averaging."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import networks
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from eosvos.config.data import Folder, Tasks
from eosvos.config.inference import Finetune
from eosvos.data.copy_paste import copy_paste_frames
from eosvos.data.files import FileSequence
from eosvos.data.folder import folder_sequences
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import TaskSampler
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.models.fpn import BackboneWithFPN
from eosvos.models.light_deeplab import LightDeepLab
from eosvos.models.mask_rcnn import MaskRCNN
from eosvos.models.segmenter import Segmenter

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# What each is trained with: https://pytorch.org/vision for torchvision's, timm's own list for timm's.
BACKBONES: dict[str, tuple[Callable[[], BackboneWithFPN], tuple]] = {
    "tiny": (lambda: networks.tiny(width=8, fpn_channels=8), IMAGENET),
    "torchvision": (lambda: networks.resnet("resnet18", fpn_channels=8), IMAGENET),
    "timm": (lambda: networks.timm("mobilenetv3_small_050", fpn_channels=8), IMAGENET),
    "timm, halves": (lambda: networks.timm("test_convnext", fpn_channels=8), HALVES),
    "pretrained": (
        lambda: networks.timm("tf_efficientnet_lite0", weights="imagenet", fpn_channels=8),
        HALVES,
    ),
}


def detector(backbone: BackboneWithFPN, **options) -> MaskRCNN:
    sizes = {"min_size": None, "anchor_sizes": [16] * len(backbone.level_names)}
    small = {"box_features": 8, "mask_channels": 8, "mask_layers": 1, "rpn_proposals_train": 20}
    return networks.mask_rcnn(backbone, **sizes | small | options)


def light_deeplab(backbone: BackboneWithFPN, **options) -> LightDeepLab:
    return networks.light_deeplab(backbone, channels=8, **options)


SEGMENTERS = {"mask_rcnn": detector, "light_deeplab": light_deeplab}


@contextmanager
def seen_by(network: nn.Module) -> Iterator[list[Tensor]]:
    """What the first convolution of a network is given."""
    seen: list[Tensor] = []
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    yield seen
    hook.remove()


def body(segmenter: Segmenter) -> nn.Module:
    return segmenter.backbone.body if isinstance(segmenter, MaskRCNN) else segmenter.backbone


def an_example() -> tuple[Tensor, Tensor]:
    mask = torch.zeros(1, 64, 96, dtype=torch.uint8)
    mask[:, 16:48, 20:60] = 1
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0)), mask


def normalised(images: Tensor, constants: tuple) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in constants)
    return (images - mean) / std


@pytest.mark.parametrize("segmenter", SEGMENTERS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_backbone_sees_images_as_it_was_trained_with(segmenter, backbone):
    make, constants = BACKBONES[backbone]
    network = SEGMENTERS[segmenter](make())
    images, masks = an_example()
    with seen_by(body(network)) as seen:
        network.losses(images, masks)
        features = network.features(images)
        assert len(seen) == 2
        network.segment(features, 0, torch.tensor([20.0, 16.0, 60.0, 48.0]))
    assert len(seen) == 2, "features are computed once"
    for pixels in seen:
        torch.testing.assert_close(pixels[..., :64, :96], normalised(images, constants), rtol=1e-5, atol=1e-5)


@pytest.fixture
def clip(tmp_path) -> FileSequence:
    """Two frames of noise, with masks of one object and an ignored region, in files."""
    draw = np.random.default_rng(0)
    labels = np.zeros((64, 96), np.uint8)
    labels[16:48, 20:60], labels[:4, :4] = 1, 255
    for t in range(2):
        for folder, values in (("frames", draw.integers(0, 256, (64, 96, 3), np.uint8)), ("masks", labels)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / folder / f"{t}.png")
    [video] = folder_sequences(Folder(images=str(tmp_path / "frames"), masks=str(tmp_path / "masks")))
    return video


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_frames_of_files_reach_the_backbone_in_training_and_segmentation(clip, segmenter):
    network = SEGMENTERS[segmenter](BACKBONES["tiny"][0]())
    pixels = [np.asarray(Image.open(path)).transpose(2, 0, 1) / 255 for path in clip.frames]
    expected = [normalised(torch.from_numpy(values).float(), IMAGENET) for values in pixels]
    task = TaskSampler([TrainingSet([(clip, 1)])], Tasks(query_frames=4, augment=None), 1).sample(0, 0)
    with seen_by(body(network)) as seen:
        network.losses(task.support_images, task.support_masks)
        network.losses(task.query_images, task.query_masks)
    drawn = torch.cat(seen)
    assert len(drawn) == 5
    assert all(min((image - e).abs().max() for e in expected) < 1e-5 for image in drawn)

    predictor = Predictor(MetaLearner(network), Finetune(steps=1, batch_size=2, augment=False))
    with seen_by(body(predictor.adapter.segmenter)) as seen:
        list(predictor.segment(clip))
    # Two copies of the annotated frame, then the frame after it.
    for image, wanted in zip(torch.cat(seen), [expected[0], expected[0], expected[1]], strict=True):
        torch.testing.assert_close(image, wanted, rtol=1e-5, atol=1e-5)


def checkerboard(height: int, width: int) -> Tensor:
    """One pixel black, the next white: float [1, 3, H, W]."""
    squares = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    return squares.float().expand(1, 3, -1, -1)


@pytest.mark.parametrize("short_side", [32, 16, 20, 30])
def test_frames_are_reduced_to_averages_and_masks_to_pixels_of_theirs(tmp_path, short_side):
    board = (checkerboard(64, 96)[0].numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    ids = np.random.default_rng(0).choice(np.array([0, 3, 20, 255], np.uint8), (64, 96))
    Image.fromarray(board).save(tmp_path / "frame.png")
    Image.fromarray(ids).save(tmp_path / "mask.png")
    reduced = FileSequence(
        "clip", [tmp_path / "frame.png"], {0: tmp_path / "mask.png"}, short_side=short_side
    )
    size = (short_side, round(short_side * 1.5))
    image, mask = reduced.image(0), reduced.mask(0)
    assert image.shape[1:] == mask.shape == reduced.size == size
    # An area of k pixels in a row or column holds k / 2 white ones, or half of one more or less.
    spread = 127.5 / (64 / short_side)
    assert (image.float() - 127.5).abs().max() <= spread + 1
    assert float(image.float().mean()) == pytest.approx(127.5, abs=1)
    assert set(mask.unique().tolist()) == {0, 3, 20, 255}


@pytest.mark.parametrize("min_size", [32, 20, 16])
def test_light_deeplab_averages_what_it_reduces(min_size):
    network = light_deeplab(networks.tiny(width=8, fpn_channels=8, levels=2), min_size=min_size)
    with seen_by(network.backbone) as seen:
        network.features(checkerboard(64, 96))
    [pixels] = seen
    assert pixels.shape[-2:] == (min_size, round(min_size * 1.5))
    grey = normalised(torch.full((1, 3, 1, 1), 0.5), IMAGENET)
    inside = pixels[..., 2:-2, 2:-2] - grey
    assert inside.abs().max() < 0.3, "black and white lie 2 apart from grey"


def test_a_detector_makes_no_new_values_of_masks():
    network = detector(networks.tiny(width=8, fpn_channels=8), min_size=40, max_size=50)
    labels = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (1, 64, 96), np.uint8))
    target = {"boxes": torch.tensor([[0.0, 0.0, 96.0, 64.0]]), "masks": labels}
    _, [resized] = network.transform.train()([torch.rand(3, 64, 96)], [target])
    assert resized["masks"].shape == (1, 33, 50)
    assert set(resized["masks"].unique().tolist()) == {0, 1}


def test_frames_of_another_video_are_averaged_to_fit():
    """The task's object is put before the other video's scene: a fine checkerboard, of which grey is left."""
    own = (torch.zeros(3, 32, 48), torch.zeros(32, 48, dtype=torch.uint8))
    own[1][12:20, 12:20] = 1
    labels = torch.from_numpy(np.random.default_rng(0).choice(np.array([0, 255], np.uint8), (96, 144)))
    labels[40:60, 40:60] = 1
    for seed in range(4):
        [(image, mask)] = copy_paste_frames(
            [own], [(checkerboard(96, 144)[0], labels)], torch.Generator().manual_seed(seed)
        )
        others = image[image > 0]
        assert ((others - 0.5).abs() < 0.2).all()
        assert set(mask.unique().tolist()) <= {0, 1, 255}


@pytest.mark.parametrize("min_size", [40, 100])
@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_a_plain_image_stays_plain_at_another_size(segmenter, min_size):
    network = SEGMENTERS[segmenter](networks.tiny(width=8, fpn_channels=8), min_size=min_size, max_size=200)
    images = torch.tensor([0.1, 0.5, 0.9])[None, :, None, None].expand(1, 3, 64, 96)
    with seen_by(body(network)) as seen:
        network.features(images)
    pixels = seen[0][..., :min_size, : min_size * 3 // 2]
    torch.testing.assert_close(pixels, normalised(images[..., :1, :1], IMAGENET).expand_as(pixels))
