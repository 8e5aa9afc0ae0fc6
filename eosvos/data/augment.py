"""Joint augmentation of images and masks (method, sections 5 and 7), drawn from an explicit generator."""

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as tv

from eosvos.config.data import Augmentation

_ATTEMPTS = 20
_MIN_VISIBLE = 0.25  # least share of the object's pixels that must still be seen

Frame = tuple[Tensor, Tensor]
"""Image float [3, H, W] in 0..1; mask uint8 [H, W] of 0 (background), 1 (object), 255 (ignore)."""


def augment_frame(
    image: Tensor, mask: Tensor, generator: Generator, augment: Augmentation | None = None
) -> tuple[Tensor, Tensor]:
    """Flip, rotate and scale one frame; its colours stay the same.

    `image` float [3, H, W] in 0..1, `mask` uint8 [H, W] of 0, 1 and 255 (ignore); the result has the same
    shapes and values. What comes in from outside the frame is black background. At least a quarter of the
    object's pixels stay.
    """
    augment = augment or Augmentation()
    if bernoulli(augment.flip, generator):
        image, mask = image.flip(-1), mask.flip(-1)
    return _rotate_and_scale(image, mask, generator, augment)


def augment_task(frames: list[Frame], generator: Generator, augment: Augmentation) -> list[Frame]:
    """Augment the frames of one task: they share colours and flip; each has a rotation and scale of its own.

    frames: images float [3, H, W] in 0..1, each with its mask uint8 [H, W] of 0, 1 and 255.
    """
    jitter = _draw_colour_jitter(generator, augment)
    flip = bernoulli(augment.flip, generator)
    results = []
    for image, mask in frames:
        flipped = (image.flip(-1), mask.flip(-1)) if flip else (image, mask)
        warped, warped_mask = _rotate_and_scale(*flipped, generator, augment)
        results.append((jitter(warped), warped_mask))
    return results


def object_remains(before: Tensor, after: Tensor) -> bool:
    """Whether a mask uint8 [H, W] after a change shows a quarter of its object or more, at least a pixel."""
    return int((after == 1).sum()) >= max(1, _MIN_VISIBLE * int((before == 1).sum()))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def bernoulli(probability: float, generator: Generator) -> bool:
    """Draw True with this probability, 0 to 1."""
    return _uniform(0, 1, generator) < probability


def _draw_colour_jitter(generator: Generator, augment: Augmentation) -> Callable[[Tensor], Tensor]:
    """Draw a change of colours for images float [3, H, W] in 0..1."""
    brightness = _uniform(1 - augment.brightness, 1 + augment.brightness, generator)
    contrast = _uniform(1 - augment.contrast, 1 + augment.contrast, generator)
    saturation = _uniform(1 - augment.saturation, 1 + augment.saturation, generator)
    hue = _uniform(-augment.hue, augment.hue, generator)

    def jitter(image: Tensor) -> Tensor:
        """Change the colours of an image float [3, H, W]."""
        image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
        return tv.adjust_hue(tv.adjust_saturation(image, saturation), hue).clamp(0, 1)

    return jitter


def _rotate_and_scale(
    image: Tensor, mask: Tensor, generator: Generator, augment: Augmentation
) -> tuple[Tensor, Tensor]:
    """Rotate and scale about the centre, redrawn until the object remains; if it never does, do nothing."""
    for _ in range(_ATTEMPTS):
        angle = _uniform(-augment.rotation, augment.rotation, generator)
        scale = _uniform(augment.scale_min, augment.scale_max, generator)
        grid = _sampling_grid(mask, angle, scale)
        warped = _sample(mask[None].float(), grid, "nearest")[0].to(mask.dtype)
        if object_remains(mask, warped):
            return _sample(image, grid, "bicubic").clamp(0, 1), warped
    return image, mask


def _sampling_grid(mask: Tensor, angle: float, scale: float) -> Tensor:
    """Where each pixel of the result is read, [1, H, W, 2] in -1..1; `angle` in degrees."""
    height, width = mask.shape
    radians = torch.tensor(angle, dtype=torch.float64).deg2rad()
    cos, sin = float(radians.cos()) / scale, float(radians.sin()) / scale
    matrix = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
    return affine_grid(torch.tensor([matrix], device=mask.device), [1, 1, height, width], align_corners=False)


def _sample(values: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Read `values` float [C, H, W] at a grid, 0 outside; torchvision's own warps have no bicubic mode."""
    return grid_sample(values[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]
