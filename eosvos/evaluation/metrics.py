"""J and F as DAVIS defines them (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675).

J is the overlap of two masks, F the agreement of their boundaries. Each is taken per object and frame; an
object is summed up by its mean, its recall and its decay over time; a data set by the mean over its objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eosvos.data.sequence import IGNORE, VideoSequence, scored_frames

if TYPE_CHECKING:
    from torch import Tensor

Masks = NDArray[np.bool_]
Values = NDArray[np.float64]

RECALL_ABOVE = 0.5
DECAY_BINS = 4


@dataclass(frozen=True)
class Statistics:
    """One measure of one object, summed up over its frames; NaN where no frame was scored."""

    mean: float
    recall: float
    decay: float


@dataclass(frozen=True)
class ObjectScore:
    """J (`region`) and F (`boundary`) of one object, in all and in each scored frame; all values in 0..1."""

    object_id: int
    region: Statistics
    boundary: Statistics
    region_per_frame: tuple[float, ...] = field(repr=False)
    boundary_per_frame: tuple[float, ...] = field(repr=False)


def region_similarity(prediction: Masks, annotation: Masks, ignore: Masks | None = None) -> Values:
    """J: intersection over union of each frame's masks; 1 where both are empty.

    `prediction`, `annotation` and `ignore` are bool [T, H, W]; pixels to ignore count nowhere. Returns
    float64 [T].
    """
    if ignore is not None:
        prediction, annotation = prediction & ~ignore, annotation & ~ignore
    intersection = np.count_nonzero(prediction & annotation, axis=(1, 2))
    union = np.count_nonzero(prediction | annotation, axis=(1, 2))
    return np.where(union > 0, intersection / np.maximum(union, 1), 1.0)


def boundary_accuracy(
    prediction: Masks, annotation: Masks, ignore: Masks | None = None, bound_th: float = 0.008
) -> Values:
    """F: harmonic mean of precision and recall of each frame's boundary pixels; 1 where both masks are empty.

    A boundary pixel is right if the other boundary has a pixel within `bound_th` times the image diagonal,
    rounded up. `prediction`, `annotation` and `ignore` are bool [T, H, W]; ignored pixels are background.
    Returns float64 [T].
    """
    if ignore is not None:
        prediction, annotation = prediction & ~ignore, annotation & ~ignore
    radius = int(np.ceil(bound_th * np.hypot(*annotation.shape[1:])))
    pairs = zip(prediction, annotation, strict=True)
    return np.array([_boundary_f(one, other, radius) for one, other in pairs], dtype=np.float64)


def statistics(per_frame: Values) -> Statistics:
    """Sum up one measure [T]: its mean, the share of frames above 0.5, and how much it falls over the video.

    The decay is the mean of the first quarter of the frames less that of the last; neighbouring quarters
    share a frame. The caller has left out the first and the last frame. Empty input gives NaN.
    """
    if not len(per_frame):
        return Statistics(float("nan"), float("nan"), float("nan"))
    # DAVIS counts frames from 1 and rounds halves up. (Its tool keeps the edges in 8 bits.)
    edges = np.round(np.linspace(1, len(per_frame), DECAY_BINS + 1) + 1e-10).astype(int) - 1
    first, last = per_frame[: edges[1] + 1], per_frame[edges[-2] :]
    recall = np.mean(per_frame > RECALL_ABOVE)
    return Statistics(float(np.mean(per_frame)), float(recall), float(np.mean(first) - np.mean(last)))


def evaluate_sequence(sequence: VideoSequence, labels: Iterable[Tensor]) -> list[ObjectScore] | None:
    """Score the label maps uint8 [H, W] of a video, one for every frame, in order: one score per object.

    Holds one frame at a time. Returns None, having run through `labels`, where the sequence has no ground
    truth to score (only the masks that start its objects). Raises ValueError where label maps are missing or
    left over.
    """
    scorer = SequenceScorer(sequence)
    for label_map in labels:
        scorer.add(label_map)
    return scorer.scores()


class SequenceScorer:
    """Scores the frames of one video as they come; `evaluate_sequence` in the form of a listener.

    An object counts from the frame after the one in which it is first annotated: before, there is nothing to
    find.
    """

    def __init__(self, sequence: VideoSequence) -> None:
        self.sequence = sequence
        self._scored = frozenset(scored_frames(sequence))
        self._first = {object_id: sequence.first_frame(object_id) for object_id in sequence.object_ids}
        self._next = 0
        self._region: dict[int, list[float]] = {object_id: [] for object_id in sequence.object_ids}
        self._boundary: dict[int, list[float]] = {object_id: [] for object_id in sequence.object_ids}

    def add(self, label_map: Tensor) -> None:
        """Take the label map uint8 [H, W] of the next frame. Raises ValueError if it has another size."""
        t, self._next = self._next, self._next + 1
        if tuple(label_map.shape) != tuple(self.sequence.size):
            raise ValueError(
                f"{self.sequence.name}: label map {t} is {tuple(label_map.shape)}, "
                f"the video {self.sequence.size}"
            )
        annotated = self.sequence.checked_mask(t) if t in self._scored else None
        if annotated is None:
            return
        predicted, annotation = label_map.cpu().numpy()[None], annotated.numpy()[None]
        ignore = annotation == IGNORE
        for object_id in (i for i, first in self._first.items() if t > first):
            masks = predicted == object_id, annotation == object_id, ignore
            self._region[object_id].append(float(region_similarity(*masks)[0]))
            self._boundary[object_id].append(float(boundary_accuracy(*masks)[0]))

    def scores(self) -> list[ObjectScore] | None:
        """One score per object that has scored frames; None without any. Raises ValueError if frames miss."""
        if self._next != self.sequence.num_frames:
            raise ValueError(
                f"{self.sequence.name}: {self._next} label maps for {self.sequence.num_frames} frames"
            )
        scores = [
            ObjectScore(
                object_id,
                statistics(np.array(region)),
                statistics(np.array(self._boundary[object_id])),
                tuple(region),
                tuple(self._boundary[object_id]),
            )
            for object_id, region in self._region.items()
            if region
        ]
        return scores or None


def _boundary_f(prediction: Masks, annotation: Masks, radius: int) -> float:
    """F of one frame: bool [H, W] each."""
    window = _window(prediction | annotation)
    if window is None:
        return 1.0
    one, other = _boundary(prediction[window]), _boundary(annotation[window])
    count_one, count_other = int(np.count_nonzero(one)), int(np.count_nonzero(other))
    if not count_one or not count_other:
        # One boundary is missing: precision and recall are 0 and 1, or 1 and 0. Both are: they are 1.
        return float(count_one == count_other)
    precision = int(np.count_nonzero(one & _near(other, radius))) / count_one
    recall = int(np.count_nonzero(other & _near(one, radius))) / count_other
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _window(mask: Masks) -> tuple[slice, slice] | None:
    """The part of the image [H, W] that holds the mask and its boundary: its box, one pixel wider."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _boundary(mask: Masks) -> Masks:
    """Pixels [H, W] that differ from a neighbour to the right, below, or right below.

    This is the convention of the Berkeley segmentation benchmark, which DAVIS uses: at the right and the
    lower border only the neighbour inside the image counts, and the corner is never on the boundary.
    """
    framed = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, below, diagonal = framed[:-1, 1:], framed[1:, :-1], framed[1:, 1:]
    return (mask ^ right) | (mask ^ below) | (mask ^ diagonal)


def _near(boundary: Masks, radius: int) -> Masks:
    """Pixels [H, W] at most `radius` from a boundary pixel."""
    import cv2

    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disk = (rows**2 + columns**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(boundary.astype(np.uint8), disk).astype(bool)
