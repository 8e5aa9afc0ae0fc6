"""`python -m eosvos.data show`: a sheet of tasks as training sees them."""

import argparse
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from eosvos.config.compose import composed
from eosvos.data.sequence import IGNORE
from eosvos.data.splits import training_sets
from eosvos.data.tasks import Task, TaskSampler
from eosvos.errors import UserError
from eosvos.writing import write_whole

_HEIGHT = 200  # of a frame, pixels
_GAP = 14  # between tasks
_CAPTION = 16
_SUPPORT = (255, 220, 0)
_OUTLINE = (255, 60, 60)
_IGNORED = (120, 160, 255)


def add_arguments(show: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    show.add_argument("overrides", nargs="*", help="as of train.py, such as dataset=images dataset.root=DIR")
    show.add_argument("--out", required=True, help="the picture to write, .png or .jpg")
    show.add_argument("--count", type=int, default=12, help="how many tasks, the first ones of training")
    show.add_argument("--columns", type=int, default=3, help="tasks beside each other")


def run(options: argparse.Namespace) -> int:
    """Draw the first tasks of training; raises UserError."""
    path = Path(options.out)
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg") or min(options.count, options.columns) < 1:
        raise UserError(
            "a sheet is a .png or .jpg file, of at least one task and column: give --out FILE.png"
        )
    config = composed(options.overrides)
    sampler = TaskSampler(training_sets(config), config.dataset, config.meta.batch_size, config.seed)
    drawn = (sampler.sample(*divmod(i, config.meta.batch_size)) for i in range(options.count))
    sheet = contact_sheet(drawn, options.columns)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=90)
    write_whole(path, buffer.getvalue())
    print(f"{path}: {options.count} tasks of {len(sampler)} objects; red: the object, blue: what is ignored")
    return 0


def contact_sheet(tasks: Iterable[Task], columns: int) -> Image.Image:
    """Draw tasks in rows: each its name above its support frames, marked by a line, and its query frames."""
    cells = [_cell(task) for task in tasks]
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    return _joined([_joined(row, beside=True, gap=_GAP) for row in rows], beside=False, gap=_GAP)


def _cell(task: Task) -> Image.Image:
    frames = [
        _frame(image, mask, support)
        for images, masks, support in (
            (task.support_images, task.support_masks, True),
            (task.query_images, task.query_masks, False),
        )
        for image, mask in zip(images, masks, strict=True)
    ]
    row = _joined(frames, beside=True)
    caption = Image.new("RGB", (row.width, _CAPTION), "white")
    ImageDraw.Draw(caption).text((0, 0), task.name, "black", ImageFont.load_default(_CAPTION - 4))
    return _joined([caption, row], beside=False)


def _frame(image: Tensor, mask: Tensor, support: bool) -> Image.Image:
    """Draw an image float [3, H, W] with its mask uint8 [H, W], `_HEIGHT` pixels high."""
    picture = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    size = max(1, round(picture.width * _HEIGHT / picture.height)), _HEIGHT
    pixels = np.asarray(picture.resize(size, Image.Resampling.BICUBIC)).copy()
    ignored = _reduced(mask == IGNORE, size)
    pixels[ignored] = (pixels[ignored] // 2 + np.array(_IGNORED) // 2).astype(np.uint8)
    pixels[_outline(_reduced(mask == 1, size))] = _OUTLINE
    drawn = Image.fromarray(pixels)
    if support:
        ImageDraw.Draw(drawn).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=_SUPPORT, width=3)
    return drawn


def _reduced(region: Tensor, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A region [H, W] in another size, (width, height): not even a pixel of it is lost."""
    picture = Image.fromarray(region.numpy().astype(np.uint8) * 255)
    return np.asarray(picture.resize(size, Image.Resampling.BOX)) > 0


def _outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels around a region [H, W], two wide."""
    import cv2

    return (cv2.dilate(region.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0) & ~region


def _joined(parts: Sequence[Image.Image], beside: bool, gap: int = 2) -> Image.Image:
    """Pictures beside or below each other, with gaps of so many pixels, on white."""
    along, across = (0, 1) if beside else (1, 0)
    size = [0, 0]
    size[along] = sum(part.size[along] + gap for part in parts) - gap
    size[across] = max(part.size[across] for part in parts)
    whole, at = Image.new("RGB", (size[0], size[1]), "white"), [0, 0]
    for part in parts:
        whole.paste(part, (at[0], at[1]))
        at[along] += part.size[along] + gap
    return whole
