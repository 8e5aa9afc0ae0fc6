"""Joint augmentation of images and masks (method, sections 5 and 7), drawn from an explicit generator."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample
from torchvision.transforms.v2 import functional as tv

from eosvos.errors import UserError

_ATTEMPTS = 20
_SURVIVING = 0.25  # share of the object's pixels that must still be seen
_LARGEST = {"flip": 1, "rotation": 180, "brightness": 1, "contrast": 1, "saturation": 1, "hue": 0.5}

Frame = tuple[Tensor, Tensor]
"""Image float [3, H, W] in 0..1; mask uint8 [H, W] of 0 (background), 1 (object), 255 (ignore)."""


@dataclass(frozen=True)
class AugmentConfig:
    """How strongly frames are augmented; all zero (scales 1) leaves them as they are.

    flip: probability of a horizontal flip. rotation: degrees, either way. scale_min, scale_max: factors of
    the object's size. brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x. hue: shift
    of -x to x of the colour circle's turn, at most 0.5. Raises UserError for a value out of range.
    """

    flip: float = 0.5
    rotation: float = 30.0
    scale_min: float = 0.75
    scale_max: float = 1.25
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1

    def __post_init__(self) -> None:
        for key, largest in _LARGEST.items():
            if not 0 <= getattr(self, key) <= largest:
                raise UserError(f"dataset.augment.{key}={getattr(self, key)} must be from 0 to {largest}")
        if not 0 < self.scale_min <= self.scale_max:
            raise UserError(
                f"dataset.augment.scale_min={self.scale_min} must be above 0 and at most "
                f"dataset.augment.scale_max={self.scale_max}"
            )


def augment_frame(
    image: Tensor, mask: Tensor, generator: Generator, config: AugmentConfig | None = None
) -> tuple[Tensor, Tensor]:
    """Flip, rotate and scale one frame; colours stay as they are.

    `image` float [3, H, W] in 0..1, `mask` uint8 [H, W] of 0, 1 and 255 (ignore); the result has the same
    shapes and values. What comes in from outside the frame is black background. At least a quarter of the
    object's pixels stay.
    """
    config = config or AugmentConfig()
    if chance(config.flip, generator):
        image, mask = image.flip(-1), mask.flip(-1)
    return _rotate_and_scale(image, mask, generator, config)


def augment_task(frames: list[Frame], generator: Generator, config: AugmentConfig) -> list[Frame]:
    """Augment the frames of one task: colours and flip are shared, rotation and scale are drawn for each.

    frames: images float [3, H, W] in 0..1, each with its mask uint8 [H, W] of 0, 1 and 255.
    """
    jitter = _draw_colour_jitter(generator, config)
    flip = chance(config.flip, generator)
    results = []
    for image, mask in frames:
        flipped = (image.flip(-1), mask.flip(-1)) if flip else (image, mask)
        turned, turned_mask = _rotate_and_scale(*flipped, generator, config)
        results.append((jitter(turned), turned_mask))
    return results


def survives(before: Tensor, after: Tensor) -> bool:
    """Whether a mask uint8 [H, W] still shows a quarter of an object, or a pixel at least, after a change."""
    return int((after == 1).sum()) >= max(1, _SURVIVING * int((before == 1).sum()))


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def chance(probability: float, generator: Generator) -> bool:
    """Draw whether something of this probability happens."""
    return _uniform(0, 1, generator) < probability


def _draw_colour_jitter(generator: Generator, config: AugmentConfig) -> Callable[[Tensor], Tensor]:
    """Draw a change of colours for images float [3, H, W] in 0..1."""
    brightness = _uniform(1 - config.brightness, 1 + config.brightness, generator)
    contrast = _uniform(1 - config.contrast, 1 + config.contrast, generator)
    saturation = _uniform(1 - config.saturation, 1 + config.saturation, generator)
    hue = _uniform(-config.hue, config.hue, generator)

    def jitter(image: Tensor) -> Tensor:
        """Change the colours of an image float [3, H, W]."""
        image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
        return tv.adjust_hue(tv.adjust_saturation(image, saturation), hue).clamp(0, 1)

    return jitter


def _rotate_and_scale(
    image: Tensor, mask: Tensor, generator: Generator, config: AugmentConfig
) -> tuple[Tensor, Tensor]:
    """Rotate and scale about the centre, redrawn until the object survives; unchanged if it never does."""
    for _ in range(_ATTEMPTS):
        angle = _uniform(-config.rotation, config.rotation, generator)
        scale = _uniform(config.scale_min, config.scale_max, generator)
        grid = _sampling_grid(mask, angle, scale)
        warped = _sample(mask[None].float(), grid, "nearest")[0].to(mask.dtype)
        if survives(mask, warped):
            return _sample(image, grid, "bicubic").clamp(0, 1), warped
    return image, mask


def _sampling_grid(mask: Tensor, angle: float, scale: float) -> Tensor:
    """Where each pixel of the result is read, [1, H, W, 2] in -1..1; `angle` in degrees."""
    height, width = mask.shape
    turn = torch.tensor(angle, dtype=torch.float64).deg2rad()
    cos, sin = float(turn.cos()) / scale, float(turn.sin()) / scale
    matrix = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
    return affine_grid(torch.tensor([matrix], device=mask.device), [1, 1, height, width], align_corners=False)


def _sample(values: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Read `values` float [C, H, W] at a grid, 0 outside; torchvision's own warps know no bicubic mode."""
    return grid_sample(values[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]
