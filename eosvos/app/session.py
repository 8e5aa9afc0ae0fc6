"""What one person does with one video: masks, and what is segmented so far; apart from any page."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from time import perf_counter
from typing import Self
from zipfile import ZipFile

import torch
from torch import Tensor

from eosvos.app.drawing import changed_objects
from eosvos.config.inference import Finetune
from eosvos.data.sequence import visible_objects
from eosvos.data.video import VideoFile
from eosvos.errors import UserError
from eosvos.evaluation.overlay import Pixels
from eosvos.evaluation.overlay_video import overlay_video
from eosvos.evaluation.results import write_labels, written_labels
from eosvos.inference.finetune import Adapter
from eosvos.inference.predictor import Predictor
from eosvos.inference.video import VideoPredictor
from eosvos.models.segmenter import Batch, Segmenter
from eosvos.writing import whole_file

STATES = 10
"""How many states of a video are kept to go on from, beside the last stop's: a correction computes at most a
tenth of it anew."""


@dataclass(frozen=True)
class Progress:
    """How far a video is: `done` of `total` frames of a stage, segmented `rate` frames a second."""

    stage: str
    done: int
    total: int
    rate: float = 0.0


class _Stopped(BaseException):
    """Work was stopped, which is no failure."""


class _Stoppable:
    """An adapter whose adaptations raise _Stopped before their next step when the event is set."""

    def __init__(self, adapter: Adapter, stopped: Event) -> None:
        self._adapter, self._stopped = adapter, stopped

    @property
    def segmenter(self) -> Segmenter:
        return self._adapter.segmenter

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        return self._adapter.adapt(self._until_stopped(batches), start=start)

    def with_fixed_lr(self, lr: float) -> Self:
        return type(self)(self._adapter.with_fixed_lr(lr), self._stopped)

    def _until_stopped(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for batch in batches:
            if self._stopped.is_set():
                raise _Stopped
            yield batch


class Session:
    """A video whose objects are followed from drawn masks, to be stopped, corrected and gone on with.

    The label maps are those of one run with all the masks: what comes after a new mask is computed anew.
    folder: where they are written. computing: is held while a predictor computes, for those of all sessions
    share a network and torch's generator.

    `given`: the label map that an editor has of the frame that it shows, as of `canvas` or `draw`. `results`:
    the zip of the masks and the overlay video that were written last, None until they are whole.
    `diverged`: how many adaptations of the latest run have left weights that are not finite.
    """

    def __init__(self, video: VideoFile, folder: Path, computing: Lock) -> None:
        self.video = video
        self.folder = folder
        self.masks: dict[int, Tensor] = {}
        self.given: dict[int, Tensor] = {}
        self.done = 0
        self.diverged = 0
        self.closed = False
        self.results: tuple[Path, Path] | None = None
        self._computing = computing
        self._finetune: Finetune | None = None
        self._states: dict[int, VideoPredictor] = {}
        # Whole label maps, of which masks are the objects that differ from what was segmented.
        self._drawn: dict[int, Tensor] = {}
        self._stopped, self._running, self._viewing = Event(), Lock(), Lock()
        self._viewed = copy(video)
        self._results_written = 0

    def picture(self, t: int) -> Pixels:
        """Frame t, uint8 [H, W, 3]."""
        with self._viewing:
            return self._viewed.checked_image(t).permute(1, 2, 0).numpy()

    def labels(self, t: int) -> Tensor:
        """The label map uint8 [H, W] of frame t: as segmented, before that as drawn."""
        if t < self.done:
            return torch.from_numpy(written_labels(self._path(t)))
        drawn = self._drawn.get(t, self.masks.get(t))
        return torch.zeros(self.video.size, dtype=torch.uint8) if drawn is None else drawn

    def canvas(self, t: int) -> Tensor:
        """The label map uint8 [H, W] of frame t, for an editor."""
        self.given = {t: self.labels(t)}
        return self.given[t]

    def drawn_on(self, t: int) -> Tensor:
        """The label map uint8 [H, W] that an editor of frame t has: `given`, or else `labels(t)`."""
        return self.given[t] if t in self.given else self.labels(t)

    def draw(self, t: int, drawn: Tensor) -> None:
        """Take the objects of a label map uint8 [H, W] that differ from `drawn_on(t)` as masks of frame t.

        A mask of which nothing is left is taken back. Raises UserError while `run` or `write_results`
        goes on.
        """
        changed = changed_objects(drawn.numpy(), self.drawn_on(t).numpy())
        mask = self.masks.get(t, torch.zeros_like(drawn))
        kept = [i for i in visible_objects(mask) if i in visible_objects(drawn)]
        if not changed and kept == visible_objects(mask):
            return
        if self._running.locked():
            raise UserError(
                f"frame {t} cannot be drawn on while the video is segmented or written: stop first"
            )
        mask = drawn.where(torch.isin(drawn, torch.tensor(kept + changed, dtype=torch.uint8)), 0)
        if mask.any():
            self.masks[t] = mask
        else:
            self.masks.pop(t, None)
        self._forget_from(t)
        self._drawn[t] = drawn
        self.given = {t: drawn}

    def run(self, predictor: Predictor) -> Iterator[Progress]:
        """Segment the frames that are not done; ends where `stop` or `close` say so.

        Raises UserError if there is no mask, or it is running already.
        """
        if not self.masks:
            raise UserError("no object is drawn: draw or upload the mask of one in any frame")
        with self._at_work():
            if predictor.finetune != self._finetune:
                self._finetune = predictor.finetune
                self._forget_from(0)
            yield from self._segment(predictor)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keep others from changing what is done; raises UserError if something is at work already."""
        if not self._running.acquire(blocking=False):
            raise UserError("this video is being segmented or written already: stop first")
        try:
            self._stopped.clear()
            # In this order, it may be closed at any moment.
            if self.closed:
                self._stopped.set()
            yield
        finally:
            self._running.release()

    def stop(self) -> None:
        """Let `run` end after the frames, or the step of fine-tuning, that it is at; it can be run again from
        there. `write_results` ends after a frame.
        """
        self._stopped.set()

    def close(self) -> None:
        """End all work on the video for good."""
        self.closed = True
        self._stopped.set()

    def write_results(self) -> Iterator[Progress]:
        """Write `results` of all frames that are done, anew; ends without where `stop` or `close` say so.

        The files of earlier results stay until the new ones are whole.
        """
        with self._at_work(), suppress(_Stopped):
            self.results, done = None, self.done
            if done == 0:
                return
            # Another name, for browsers would show what they have of the old one.
            old, new = (self.folder / f"results-{self._results_written + more}" for more in (0, 1))
            masks, overlay = (new / f"{self.video.name}.{what}" for what in ("masks.zip", "overlay.mp4"))
            shown = copy(self.video)
            shown.sound = self.video.sound if done == self.video.num_frames else None
            with overlay_video(overlay, shown) as add:
                for t in range(done):
                    add(t, self.labels(t))
                    yield Progress("Writing the overlay", t + 1, done)
                    if self._stopped.is_set():
                        raise _Stopped
            with whole_file(masks) as temporary, ZipFile(temporary, "w") as archive:
                for t in range(done):
                    archive.write(self._path(t), f"{self.video.name}/{self._path(t).name}")
            shutil.rmtree(old, ignore_errors=True)
            self._results_written += 1
            self.results = masks, overlay

    def _segment(self, predictor: Predictor) -> Iterator[Progress]:
        total, reader = self.video.num_frames, copy(self.video)
        t = max((start for start in self._states if start <= self.done), default=0)
        adapter = _Stoppable(predictor.adapter, self._stopped)
        new = VideoPredictor(adapter, predictor.finetune, predictor.seed, self.video.name)
        state = copy(self._states.get(t, new))
        every, rate = -(-total // STATES), 0.0
        self.diverged, before_run = 0, state.timing.diverged
        while t < total and not self._stopped.is_set():
            end = self._chunk_end(t, every, predictor.finetune.feature_batch_size)
            yield Progress("Segmenting" if t not in self.masks else "Fine-tuning", t, total, rate)
            frames = [(reader.checked_image(i), self.masks.get(i)) for i in range(t, end)]
            before = copy(state)
            try:
                with self._computing:
                    started = perf_counter()
                    found = list(state.steps(frames))
            except _Stopped:
                if t:
                    self._keep(before, t, every)
                break
            self.diverged = state.timing.diverged - before_run
            if t not in self.masks:
                rate = len(frames) / (perf_counter() - started)
            for i, labels in enumerate(found, start=t):
                write_labels(self._path(i), labels)
            t = self.done = end
            if t % every == 0 or self._stopped.is_set():
                self._keep(copy(state), t, every)
        yield Progress("Segmenting", t, total, rate)

    def _keep(self, state: VideoPredictor, t: int, every: int) -> None:
        """Keep a state to go on from. Of those between the regular ones, only the latest stays."""
        self._states = {start: one for start, one in self._states.items() if start % every == 0} | {t: state}

    def _chunk_end(self, t: int, every: int, longest: int) -> int:
        """Where the frames that are segmented at once from frame t on end: before a mask or a kept state."""
        if t in self.masks:
            return t + 1
        ends = [other for other in self.masks if other > t]
        return min([self.video.num_frames, t + longest, (t // every + 1) * every, *ends])

    def _forget_from(self, t: int) -> None:
        """Let what was segmented from frame t on be computed anew."""
        self.done = min(self.done, t)
        self._states = {start: state for start, state in self._states.items() if start <= t}
        self._drawn = {drawn: labels for drawn, labels in self._drawn.items() if drawn < t}

    def _path(self, t: int) -> Path:
        return self.folder / "masks" / f"{self.video.frame_names[t]}.png"
