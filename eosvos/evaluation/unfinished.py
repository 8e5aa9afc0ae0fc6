"""A video that is segmented into a results folder, gone on with at the frame where it was interrupted."""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy

import torch
from torch import Tensor

from eosvos.console import say
from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError
from eosvos.evaluation.pictures import written_pictures
from eosvos.evaluation.results import ResultsFolder, written_labels
from eosvos.inference.predictor import Predictor
from eosvos.inference.video import VideoPredictor
from eosvos.models.weights import read_saved, save_whole
from eosvos.processes import interruption

SECONDS = 10.0
"""At least so long, and SHARE times what a save takes, lies between two saves of the state of a video."""
SHARE = 20


@contextmanager
def segmented_into(
    folder: ResultsFolder, predictor: Predictor, sequence: VideoSequence, overlay: bool
) -> Iterator[tuple[Iterator[tuple[str, Tensor]], Callable[[int, Tensor], None]]]:
    """Give all frames (name, label map uint8 [H, W]) of a sequence that has been begun in the folder, and
    what takes (number, label map) of each, in order, and writes its pictures, see `written_pictures`.

    What was segmented before an interruption is read. Raises UserError if it was changed since.
    """
    unfinished = _Unfinished(folder, predictor, sequence)

    def take(t: int, labels: Tensor) -> None:
        write(t, labels)
        unfinished.take(t, labels)

    try:
        with written_pictures(sequence, folder, overlay, unfinished.start) as write:
            yield unfinished.frames(), take
    except BaseException as error:
        # A library may have made another error of a signal.
        if not isinstance(error, Exception) or interruption():
            unfinished.save()
        raise


class _Unfinished:
    """The state of a video on its way into a results folder, which is saved from time to time.

    `start`: the first frame that is not segmented yet.
    """

    def __init__(self, folder: ResultsFolder, predictor: Predictor, sequence: VideoSequence) -> None:
        self._predictor, self._sequence = predictor, sequence
        self._path = folder.state_path(sequence.name)
        self._labels = [folder.labels_path(sequence.name, name) for name in sequence.frame_names]
        self._video, digest = predictor.video(sequence.name), b""
        if self._path.is_file():
            self._video, digest = self._loaded()
        self.start = self._saved = self._video.timing.steps
        # Of the label maps so far, each with that of those before.
        self._digest = b""
        self._kept = copy(self._video), digest
        self._due = time.monotonic() + SECONDS

    def _loaded(self) -> tuple[VideoPredictor, bytes]:
        """The state that is there, and the digest of its label maps; a new one, if these are not there."""
        name, new = self._sequence.name, self._predictor.video(self._sequence.name)
        refusal = f"{self._path} is no state of {name} to go on from, delete it to segment {name} anew"
        state, video = read_saved(self._path, refusal), copy(new)
        try:
            video.load_state_dict(state["video"])
            start, digest = video.timing.steps, bytes.fromhex(state["digest"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{refusal}: it is of something else") from error
        if not all(path.is_file() for path in self._labels[:start]):
            return new, b""
        say(f"{name}: goes on at frame {start} of {self._sequence.num_frames}")
        return video, digest

    def frames(self) -> Iterator[tuple[str, Tensor]]:
        """All frames (name, label map uint8 [H, W]): those that are there, then those that are segmented."""
        for name, path in zip(self._sequence.frame_names, self._labels[: self.start], strict=False):
            yield name, torch.from_numpy(written_labels(path))
        yield from self._predictor.segment(self._sequence, self._video)

    def take(self, t: int, labels: Tensor) -> None:
        """Note that the pictures of frame `t`, with the label map uint8 [H, W], are written; save if it is
        time.
        """
        self._digest = hashlib.sha256(self._digest + labels.numpy().tobytes()).digest()
        if t + 1 == self.start and self._digest != self._kept[1]:
            raise UserError(
                f"{self._labels[0].parent}: masks were changed after they were written: move them away, or "
                "set overwrite=true to compute all anew"
            )
        # The video is ahead of its frames while several are segmented at once.
        if t + 1 == self._video.timing.steps:
            self._kept = copy(self._video), self._digest
            if time.monotonic() >= self._due:
                self.save()

    def save(self) -> None:
        """Save the state after the last frame of which it is known, if it is another than the saved one."""
        video, digest = self._kept
        if video.timing.steps == self._saved:
            return
        started = time.monotonic()
        save_whole(self._path, {"video": video.state_dict(), "digest": digest.hex()})
        self._saved = video.timing.steps
        ended = time.monotonic()
        self._due = ended + max(SECONDS, SHARE * (ended - started))
