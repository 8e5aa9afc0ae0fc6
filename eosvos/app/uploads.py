"""Files that come from a browser: what is refused, and what is read of the others."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path

import torch
from torch import Tensor

from eosvos.config.app import App
from eosvos.data.container import opened
from eosvos.data.folder import is_silhouette
from eosvos.data.video import VideoFile
from eosvos.errors import UserError


def uploaded_video(path: Path, settings: App) -> VideoFile:
    """The video in an uploaded file, without masks; raises UserError for what is none, or beyond a limit."""
    with _of_uploads(settings, path):
        megabytes = path.stat().st_size / 1e6
        if megabytes > settings.max_megabytes:
            raise UserError(
                f"{path} has {megabytes:.0f} megabytes, and max_megabytes={settings.max_megabytes} is the "
                "limit: give a smaller file"
            )
        with opened(path) as (_, stream):
            _check_sides(path, (stream.height, stream.width), settings)
        video = VideoFile(path.stem, path, {})
        _check_sides(path, video.size, settings)
        if video.num_frames > settings.max_frames:
            raise UserError(
                f"{path} has {video.num_frames} frames, and max_frames={settings.max_frames} is the limit: "
                "cut it, or start the page with another limit"
            )
    return video


def uploaded_masks(paths: Sequence[Path], t: int, video: VideoFile, settings: App) -> Tensor:
    """The masks of frame t in uploaded PNG files, uint8 [H, W] of object ids; the last file lies on top.

    The values of a file are ids; one that is white on black is the mask of one object: of the first file
    object 1, of the second object 2, etc. Raises UserError for what is no mask of the video.
    """
    found = torch.zeros(video.size, dtype=torch.uint8)
    for number, path in enumerate(paths, start=1):
        with _of_uploads(settings, path, video.path):
            reader = copy(video)
            reader.masks = {t: path}
            labels = reader.checked_mask(t)
            assert labels is not None
            if is_silhouette([path]):
                labels = (labels == 255) * number
            found = labels.to(torch.uint8).where((labels > 0) & (labels < 255), found)
    return found


@contextmanager
def _of_uploads(settings: App, *paths: Path) -> Iterator[None]:
    """Raise UserError unless files lie in the page's own folder; messages name them as their user does."""
    for path in paths:
        if Path(settings.output).resolve() not in path.resolve().parents:
            raise UserError(f"{path.name} was not uploaded to this page: choose it anew")
    try:
        yield
    except UserError as error:
        message = str(error)
        for path in paths:
            message = message.replace(str(path), path.name)
        raise UserError(message) from error


def _check_sides(path: Path, size: tuple[int, int], settings: App) -> None:
    if max(size) > settings.max_side:
        raise UserError(
            f"{path} has {size[1]}x{size[0]} pixels, and max_side={settings.max_side} is the limit: give it "
            "in a smaller size"
        )
