"""Reads picture files: the same rules hold for frames and masks, for headers and pixels."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image

from eosvos.data.sequence import IGNORE, visible_objects
from eosvos.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ID_MODES = ("P", "L", "1")
"""Modes of images whose pixels are object ids: palette, grey, black and white."""

_OTHER_GREYS = {"I": "16-bit grey", "I;16": "16-bit grey", "LA": "grey and alpha"}

# Other formats have depths without a range (TIFF), or palettes that change (GIF). MPO: a camera's JPEG.
_FORMATS = ("BMP", "JPEG", "MPO", "PNG", "WEBP")

_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture of each EXIF orientation upright; from 5 on, width and height change places."""

_FEW_BITS = "few bits"

_LARGEST_GREY_ID = 20
"""In a grey mask, larger values beside white (255) count as smooth edges."""

_NEARLY_BLACK = 16
"""Values below, of all three colours, are black to the eye."""


def read_header(path: Path, upright: bool = True) -> tuple[tuple[int, int], str]:
    """Return (height, width), as the picture is shown, and mode of an image file without decoding it.

    upright: whether it is turned as its EXIF orientation says. Raises UserError if it is broken, of another
    format than those read, or holds several pictures.
    """
    with _opened(path) as (image, orientation):
        size = (image.height, image.width)
        return (size[::-1] if upright and orientation >= 5 else size), image.mode


def read_image(path: Path, upright: bool = True) -> NDArray[np.uint8]:
    """Decode an image file: RGB, uint8 [H, W, 3]; `upright`: turned as its EXIF orientation says.

    16 bits are reduced to the upper 8; transparent pixels are laid on black. Raises UserError as read_header
    does.
    """
    return _colours(_decoded(path, upright=upright), path)


def read_labels(path: Path, merge_objects: bool = False) -> NDArray[np.uint8]:
    """Decode a mask file: object ids uint8 [H, W]; with `merge_objects`, 1 wherever it is not black.

    Raises UserError as read_ids does; with `merge_objects`, pixels may be colours and smooth edges.
    """
    if not merge_objects:
        return read_ids(path)[0]
    image = _decoded(path, exact=True)
    if image.mode not in ID_MODES:
        return (_colours(image, path).max(-1) > 0).astype(np.uint8)
    labels = np.asarray(image).astype(np.uint8)
    _check_background(path, _palette(image), labels)
    return (labels != 0).astype(np.uint8)


def read_ids(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int_] | None]:
    """Decode a mask file: object ids uint8 [H, W], and the colour of each, [256, 3]; None for a grey one.

    Raises UserError as read_header does; if it is no PNG, whatever its name; if a palette has its black
    elsewhere than at index 0; and if its pixels are no ids, but colours, smooth edges or greys of a few bits.
    """
    image = _decoded(path, exact=True)
    if image.mode not in ID_MODES:
        raise UserError(no_object_ids_message(path, image.mode))
    labels, palette = np.asarray(image).astype(np.uint8), _palette(image)
    _check_background(path, palette, labels)
    _check_edges(path, labels, palette.sum(-1), white=image.mode == "L")
    if image.info.get(_FEW_BITS) and visible_objects(labels):
        raise UserError(
            f"{path} is grey with 2 or 4 bits a pixel, whose values are no ids: save it with 8 bits"
        )
    return labels, palette if image.mode == "P" else None


def no_object_ids_message(path: Path, mode: str) -> str:
    """Say that a mask file has a mode whose pixels are no ids."""
    return (
        f"{path} is a {_OTHER_GREYS.get(mode, 'colour')} image, but a mask must be a palette or 8-bit grey "
        "PNG whose values are object ids: save it as one"
    )


def inexact_message(path: Path) -> str:
    """Say that a mask is in another format than PNG."""
    return f"the mask {path} is no PNG file, whose values are exact (JPEG blurs ids): save it as one"


def missing_file_message(path: Path) -> str:
    """Say that a file is missing."""
    return f"{path} is missing: restore it, or leave out its sequence"


@contextmanager
def naming_broken_file(path: Path) -> Iterator[None]:
    """Turn the many types that Pillow raises on a missing or broken file into a UserError that names it."""
    # A pipe would be waited for.
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path} is no file: replace it")
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(missing_file_message(path)) from None
    except Exception as error:
        raise UserError(f"{path} cannot be read as an image ({error}): replace it") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """Open a picture without decoding it, and return it with its EXIF orientation, 1 (upright) to 8."""
    with naming_broken_file(path), Image.open(path) as image:
        if image.format not in _FORMATS:
            raise UserError(f"{path} is a {image.format} file, which is not read: save it as PNG or JPEG")
        count = getattr(image, "n_frames", 1)
        if count > 1 and image.format != "MPO":
            raise UserError(f"{path} holds {count} pictures, not one: save each as a file of its own")
        # A PNG file's own getexif() would decode it, to look behind the pixels, too.
        orientation = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
        yield image, orientation if orientation in _TRANSPOSES else 1


def _decoded(path: Path, exact: bool = False, upright: bool = True) -> Image.Image:
    with _opened(path) as (image, orientation):
        if exact and image.format != "PNG":
            raise UserError(inexact_message(path))
        # PNG's greys of 2 and 4 bits are shares of white.
        image.info[_FEW_BITS] = [one[3] for one in getattr(image, "tile", ())] in (["L;2"], ["L;4"])
        image.load()
        turned = upright and orientation in _TRANSPOSES
        return image.transpose(_TRANSPOSES[orientation]) if turned else image


def _colours(image: Image.Image, path: Path) -> NDArray[np.uint8]:
    """RGB, uint8 [H, W, 3], of any mode that the formats have."""
    with naming_broken_file(path):
        if image.mode.startswith("I"):
            # Pillow reduces 16-bit colours in the same way, and cuts 16-bit grey off at 255.
            return np.asarray(Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB"))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        return np.asarray(image.convert("RGB"))


def _palette(image: Image.Image) -> NDArray[np.int_]:
    """The colour of each value, [256, 3] of 0..255; of greys the value itself, thrice."""
    palette = np.arange(256).repeat(3).reshape(256, 3)
    if image.mode == "P":
        colours = np.array(image.getpalette()).reshape(-1, 3)
        palette[: len(colours)] = colours
    return palette


def _check_background(path: Path, palette: NDArray[np.int_], labels: NDArray[np.uint8]) -> None:
    """Raise UserError if a palette [256, 3] is black at an index that is used, but not at 0."""
    black = palette.max(-1) < _NEARLY_BLACK
    used = np.unique(labels)
    if not black[0] and black[used].any():
        raise UserError(
            f"{path} is a palette image whose background, 0, is not black, while {used[black[used]][0]} is: "
            "save it with a palette that begins with black, and the background as 0"
        )


def _check_edges(path: Path, labels: NDArray[np.uint8], brightness: NDArray[np.int_], white: bool) -> None:
    """Raise UserError if ids look like smooth edges: many of them, or some of a grey mask beside white.

    brightness: of each id, [256]. white: 255 may be the colour of an object.
    """
    ids = visible_objects(labels)
    white = white and max(ids, default=0) > _LARGEST_GREY_ID and bool((labels == IGNORE).any())
    edges = 0 if white or len(ids) < 3 else _count_edges(labels, ids, brightness)
    if white or edges >= max(2, len(ids) / 3):
        raise UserError(
            f"{path} holds {'white and ' * white}{len(ids)} values up to {max(ids)}, which look like smooth "
            "edges and no ids: threshold it to black and white, or save ids as a palette PNG without "
            "smooth edges"
        )


def _count_edges(labels: NDArray[np.uint8], ids: list[int], brightness: NDArray[np.int_]) -> int:
    """How many ids nowhere fill 3x3 pixels, and mostly lie between darker and brighter neighbours."""
    padded = np.pad(labels, 1, mode="edge")
    height, width = labels.shape
    shifts = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    filled = np.bincount(labels[np.logical_and.reduce([shift == labels for shift in shifts])], minlength=256)
    thin = np.isin(labels, [i for i in ids if not filled[i]])
    here, around = brightness[labels[thin]], brightness[np.stack([shift[thin] for shift in shifts])]
    between = (around.min(0) < here) & (here < around.max(0))
    of_each = np.bincount(labels[thin], minlength=256), np.bincount(labels[thin][between], minlength=256)
    return int((of_each[1] * 2 > of_each[0]).sum())
