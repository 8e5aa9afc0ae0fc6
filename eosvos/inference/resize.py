"""Frames and masks at the size that the network sees, and back."""

from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate


def resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Images or probabilities float [C, H, W] at a size (H', W'), smoothed where that is smaller."""
    if values.shape[1:] == size:
        return values
    return interpolate(values[None], size, mode="bilinear", align_corners=False, antialias=True)[0]


def resized_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask uint8 [H, W] of 0, 1, 255 that shows an object at a size (H', W'), where it still shows it.

    Each pixel is the nearest one; of an object that is too small for that, every pixel that holds a part.
    """
    if mask.shape == size:
        return mask
    nearest = interpolate(mask[None, None], size, mode="nearest-exact")[0, 0]
    if (nearest == 1).any():
        return nearest
    return nearest.masked_fill(adaptive_max_pool2d((mask == 1).float()[None], size)[0] > 0, 1)
