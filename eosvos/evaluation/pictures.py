"""What is written of a video while it is segmented: masks, cutouts, a strip of frames, the overlay."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from eosvos.data.sequence import IGNORE, VideoSequence
from eosvos.evaluation.overlay import OverlayStrip, Pixels
from eosvos.evaluation.overlay_video import overlay_video
from eosvos.evaluation.results import ResultsFolder
from eosvos.writing import write_whole


@contextmanager
def written_pictures(
    sequence: VideoSequence, folder: ResultsFolder, overlay: bool, start: int = 0
) -> Iterator[Callable[[int, Tensor], None]]:
    """Give what takes (number, label map uint8 [H, W]) of each frame, in order, and writes the pictures of a
    sequence that has been begun in the folder.

    overlay: whether there is a strip, and the overlay video if the folder's format has one. start: the first
    frame whose own pictures are not there yet.
    """
    # Read apart from the predictor, which is some frames ahead.
    sequence, wanted = copy(sequence), frozenset(sequence.result_names)
    strip = OverlayStrip(sequence) if overlay else None
    with ExitStack() as stack:
        video = folder.overlay_video_path(sequence.name) if overlay else None
        add_to_video = stack.enter_context(overlay_video(video, sequence)) if video else None

        def take(t: int, labels: Tensor) -> None:
            name = sequence.frame_names[t]
            if t >= start:
                folder.write_frame(sequence.name, name, labels)
                path = folder.frame_path(sequence.name, name)
                if folder.format == "cutout" and path is not None and name in wanted:
                    write_cutout(path, sequence.checked_image(t).permute(1, 2, 0).numpy(), labels)
            if strip is not None:
                strip.add(t, labels)
            if add_to_video is not None:
                add_to_video(t, labels)

        yield take
    if strip is not None:
        strip.save(folder.overlay_path(sequence.name))


def write_cutout(path: Path, image: Pixels, labels: Tensor) -> None:
    """Write the objects of an image uint8 [H, W, 3] on transparency, as PNG; labels: uint8 [H, W]."""
    shown = (labels != 0) & (labels != IGNORE)
    alpha = shown.cpu().numpy().astype(np.uint8)[..., None] * 255
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([image, alpha], axis=2)).save(buffer, format="PNG")
    write_whole(path, buffer.getvalue())
