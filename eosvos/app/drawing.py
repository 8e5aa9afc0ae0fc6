"""Label maps as layers that a brush of one colour for each object draws on, and back."""

from collections.abc import Iterable

import numpy as np

from eosvos.data.sequence import visible_objects
from eosvos.evaluation.overlay import Pixels
from eosvos.evaluation.results import davis_palette

OBJECTS = 7
"""How many objects have a brush: the palette's further colours are hard to tell apart."""
_SAME = 24
"""Colours no further apart than this are one; the browser rounds where a layer is translucent."""
_PACKED = np.array([1 << 16, 1 << 8, 1], np.int32)
"""What red, green and blue, 0 to 255, add to a number that stands for the colour."""


def brush_colours() -> list[str]:
    """The colour of each object that can be drawn, 1 and on: #rrggbb."""
    return ["#{:02x}{:02x}{:02x}".format(*davis_palette()[i]) for i in range(1, OBJECTS + 1)]


def layer_of(labels: Pixels) -> Pixels:
    """The layer uint8 [H, W, 4] that shows the objects of a label map uint8 [H, W]."""
    alpha = np.where(labels > 0, 255, 0).astype(np.uint8)
    return np.dstack([davis_palette()[labels], alpha])


def labels_of(layers: Iterable[Pixels], size: tuple[int, int], known: Iterable[int] = ()) -> Pixels:
    """The label map uint8 [H, W] that layers uint8 [H, W, 4] show, the last on top.

    known: objects beside 1 to OBJECTS that may be shown. Where a stroke's edge mixes two colours, the pixel
    is of the one that is closer, of those that are there unmixed.
    """
    ids = np.array(sorted({*range(1, OBJECTS + 1), *known}))
    colours = davis_palette()[ids].astype(int)
    labels = np.zeros(size, np.uint8)
    for layer in layers:
        drawn = layer[..., 3] >= 128
        # A frame has millions of pixels, and a few colours.
        packed, pixels = np.unique(layer[drawn][:, :3] @ _PACKED, return_inverse=True)
        distances = np.abs(packed[:, None, None] // _PACKED % 256 - colours).max(-1)
        unmixed = np.zeros(len(ids), bool)
        unmixed[distances[distances.min(-1, initial=256) <= _SAME].argmin(-1)] = True
        if unmixed.any():
            labels[drawn] = ids[unmixed][distances[:, unmixed].argmin(-1)][pixels]
    return labels


def changed_objects(drawn: Pixels, shown: Pixels) -> list[int]:
    """The objects that a drawn label map uint8 [H, W] shows elsewhere than the one that was there before."""
    return [i for i in visible_objects(drawn) if ((drawn == i) != (shown == i)).any()]
