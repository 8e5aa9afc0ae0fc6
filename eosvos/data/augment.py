"""Joint augmentation of images and masks (method, sections 5 and 7), drawn from an explicit generator."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate
from torchvision.transforms.v2 import functional as tv

from eosvos.config.data import Augmentation
from eosvos.data.sequence import IGNORE

_ATTEMPTS = 20
_ELASTIC_POINTS = 5  # a side, between which the field of displacements is smooth
_MIN_VISIBLE = 0.25  # least share of the object's pixels that must still be seen

Frame = tuple[Tensor, Tensor]
"""Image float [3, H, W] in 0..1; mask uint8 [H, W] of 0 (background), 255 (ignore), and 1 where the object
is, or the ids of all objects."""


def augment_frame(
    image: Tensor, mask: Tensor, generator: Generator, augment: Augmentation | None = None
) -> tuple[Tensor, Tensor]:
    """Flip and warp one frame; its colours stay the same.

    `image` float [3, H, W] in 0..1, `mask` uint8 [H, W] of 0, 1 and 255 (ignore); the result has the same
    shapes and values. What comes in from outside the frame is black background. At least a quarter of the
    object's pixels stay.
    """
    augment = augment or Augmentation()
    if bernoulli(augment.flip, generator):
        image, mask = image.flip(-1), mask.flip(-1)
    return _warp(image, mask, generator, augment)


def augment_task(frames: list[Frame], generator: Generator, augment: Augmentation) -> list[Frame]:
    """Augment the frames of one task: they share a flip and, but for `frame_colours`, colours; each has its
    own warp.

    frames: images float [3, H, W] in 0..1, each with its mask uint8 [H, W] of 0, 1 and 255.
    """
    jitter = _draw_colour_jitter(generator, augment, 1)
    flip = bernoulli(augment.flip, generator)
    results = []
    for image, mask in frames:
        flipped = (image.flip(-1), mask.flip(-1)) if flip else (image, mask)
        warped, warped_mask = _warp(*flipped, generator, augment)
        image = jitter(warped)
        if augment.frame_colours:
            image = _draw_colour_jitter(generator, augment, augment.frame_colours)(image)
        results.append((image, warped_mask))
    return results


def crop_frame(frame: Frame, size: Sequence[int], generator: Generator) -> Frame:
    """Crop a frame that shows its object to `size` (height, width), or to its own where that is less.

    The crop is drawn uniformly among those that show a pixel of the object, itself drawn at random, until a
    quarter of the object's pixels remain; if they never do, the crop with most of them is taken.
    """
    image, mask = frame
    pixels = _object_pixels(mask).nonzero()
    crops = []
    for _ in range(_ATTEMPTS):
        pixel = pixels[int(torch.randint(len(pixels), (), generator=generator))].tolist()
        rows, columns = (
            _draw_span(at, length, min(length, most), generator)
            for at, length, most in zip(pixel, mask.shape, size, strict=True)
        )
        crops.append((image[:, rows, columns], mask[rows, columns]))
        if object_remains(mask, crops[-1][1]):
            return crops[-1]
    return max(crops, key=lambda crop: int(_object_pixels(crop[1]).sum()))


def _draw_span(at: int, length: int, kept: int, generator: Generator) -> slice:
    """Draw a span of `kept` of `length` pixels that contains pixel `at`."""
    first, last = max(0, at - kept + 1), min(at, length - kept)
    start = first + int(torch.randint(last - first + 1, (), generator=generator))
    return slice(start, start + kept)


def object_remains(before: Tensor, after: Tensor) -> bool:
    """Whether a mask uint8 [H, W] after a change shows a quarter of its objects or more, at least a pixel."""
    seen, all_of_it = (int(_object_pixels(mask).sum()) for mask in (after, before))
    return seen >= max(1, _MIN_VISIBLE * all_of_it)


def _object_pixels(mask: Tensor) -> Tensor:
    return (mask > 0) & (mask != IGNORE)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def bernoulli(probability: float, generator: Generator) -> bool:
    """Draw True with this probability, 0 to 1."""
    return _uniform(0, 1, generator) < probability


def _draw_colour_jitter(
    generator: Generator, augment: Augmentation, share: float
) -> Callable[[Tensor], Tensor]:
    """Draw a change of colours, by a share of the ranges, for images float [3, H, W] in 0..1."""
    ranges = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    brightness, contrast, saturation, hue = (
        _uniform(centre - share * reach, centre + share * reach, generator)
        for centre, reach in zip((1, 1, 1, 0), ranges, strict=True)
    )

    def jitter(image: Tensor) -> Tensor:
        """Change the colours of an image float [3, H, W]."""
        image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
        return tv.adjust_hue(tv.adjust_saturation(image, saturation), hue).clamp(0, 1)

    return jitter


def _warp(image: Tensor, mask: Tensor, generator: Generator, augment: Augmentation) -> tuple[Tensor, Tensor]:
    """Warp about the centre, redrawn until the object remains; if it never does, do nothing."""
    for _ in range(_ATTEMPTS):
        grid = _draw_sampling_grid(mask, generator, augment)
        warped = _sample(mask[None].float(), grid, "nearest")[0].to(mask.dtype)
        if object_remains(mask, warped):
            return _sample(image, grid, "bicubic").clamp(0, 1), warped
    return image, mask


def _draw_sampling_grid(mask: Tensor, generator: Generator, augment: Augmentation) -> Tensor:
    """Draw where each pixel of the result is read, [1, H, W, 2] in -1..1: x, y."""
    height, width = mask.shape
    angle = _uniform(-augment.rotation, augment.rotation, generator)
    scale = _uniform(augment.scale_min, augment.scale_max, generator)
    radians = torch.tensor(angle, dtype=torch.float64).deg2rad()
    cos, sin = float(radians.cos()) / scale, float(radians.sin()) / scale
    # Rows of a matrix in pixels; below, in halves of the frame's sides.
    x, y = [cos, -sin], [sin, cos]
    if augment.shear:
        slope = math.tan(math.radians(_uniform(-augment.shear, augment.shear, generator)))
        x, y = [x[0], x[1] + slope * x[0]], [y[0], y[1] + slope * y[0]]
    reach = 2 * augment.shift
    shift = [_uniform(-reach, reach, generator) if reach else 0.0 for _ in range(2)]
    matrix = [[x[0], x[1] * height / width, shift[0]], [y[0] * width / height, y[1], shift[1]]]
    size = [1, 1, height, width]
    grid = affine_grid(torch.tensor([matrix], device=mask.device), size, align_corners=False)
    if augment.elastic:
        points = 2 * torch.rand((1, 2, _ELASTIC_POINTS, _ELASTIC_POINTS), generator=generator) - 1
        field = interpolate(points, (height, width), mode="bicubic", align_corners=True)
        per_side = torch.tensor([width, height]) / min(height, width)
        grid = grid + (2 * augment.elastic * field.permute(0, 2, 3, 1) / per_side).to(grid)
    return grid


def _sample(values: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Read `values` float [C, H, W] at a grid, 0 outside; torchvision's own warps have no bicubic mode."""
    return grid_sample(values[None], grid, mode=mode, padding_mode="zeros", align_corners=False)[0]
