"""One object's way through a video: priors, lost objects and online adaptation, with a segmenter that follows
a script.
"""

from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from eosvos.config.inference import Finetune, Online
from eosvos.inference.finetune import first_frame_batches
from eosvos.inference.propagate import DIVERGED, ObjectTrack, mask_box
from eosvos.models.segmenter import Batch, Features, Segmenter

SIZE = (8, 10)


class ScriptedSegmenter(Segmenter):
    """Sees the object where the image's red channel is above one half; remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(1, 1)
        self.calls: list[tuple[list[float] | None, bool]] = []

    def losses(self, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
        return {"none": self.backbone.weight.sum()}

    def features(self, images: Tensor) -> Features:
        return Features({"red": images[:, :1]}, tuple(images.shape[-2:]))

    def segment(
        self, features: Features, index: int, prior: Tensor | None = None, redetect: bool = False
    ) -> Tensor:
        self.calls.append((None if prior is None else prior.tolist(), redetect))
        return features.maps["red"][index, 0]

    def head_parameters(self) -> list[nn.Parameter]:
        return []


class RecordingAdapter:
    """Hands out scripted segmenters that share one list of calls, and keeps the batches it was given."""

    def __init__(self) -> None:
        self.segmenter = ScriptedSegmenter()
        self.adaptations: list[tuple[list[Batch], Segmenter | None]] = []
        self.made: list[Segmenter] = []

    def adapt(self, batches: Iterable[Batch], *, start: Segmenter | None = None) -> Segmenter:
        self.adaptations.append((list(batches), start))
        adapted = ScriptedSegmenter()
        adapted.calls = self.segmenter.calls
        self.made.append(adapted)
        return adapted


def frame_with_object(column: int | None, value: float = 0.9) -> Tensor:
    image = torch.zeros(3, *SIZE)
    if column is not None:
        image[0, 2:5, column : column + 2] = value
    return image


def start_track(finetune: Finetune) -> tuple[ObjectTrack, RecordingAdapter]:
    adapter = RecordingAdapter()
    mask = (frame_with_object(0)[0] > 0.5).to(torch.uint8)
    return ObjectTrack(adapter, finetune, frame_with_object(0), mask, 0, (0, "video", 1)), adapter


def test_box_is_tight_with_exclusive_maximum():
    assert mask_box(frame_with_object(3)[0] > 0.5).tolist() == [3, 2, 5, 5]
    assert mask_box(torch.zeros(SIZE, dtype=torch.bool)) is None


def test_each_frame_is_given_the_box_of_the_mask_before():
    track, adapter = start_track(Finetune(steps=2, augment=False))
    track.advance(torch.stack([frame_with_object(c) for c in (1, 2, 4)]), 1)
    assert adapter.segmenter.calls == [([0, 2, 2, 5], False), ([1, 2, 3, 5], False), ([2, 2, 4, 5], False)]


def test_a_lost_object_is_redetected_from_the_first_prior_until_it_is_found():
    track, adapter = start_track(Finetune(steps=1, augment=False))
    frames = [
        frame_with_object(3),
        frame_with_object(None),
        frame_with_object(6, 0.4),
        frame_with_object(7),
        frame_with_object(7),
    ]
    probability = track.advance(torch.stack(frames), 1)
    first = [0, 2, 2, 5]
    assert adapter.segmenter.calls == [
        (first, False),
        ([3, 2, 5, 5], False),
        (first, True),
        (first, True),
        ([7, 2, 9, 5], False),
    ]
    assert probability.shape == (5, *SIZE)


def online(**changes: object) -> Finetune:
    settings = Online(**{"every": 4, "steps": 2, "batch_size": 3, **changes})
    return Finetune(steps=1, augment=False, online=settings)


@pytest.mark.parametrize(("frames", "columns"), [("oldest", [1, 2]), ("latest", [3, 5])])
def test_online_adaptation_sees_the_annotation_and_masked_frames_of_the_last_segment(frames, columns):
    track, adapter = start_track(online(frames=frames))
    images = [frame_with_object(c) for c in (1, 2, 3, None)]
    assert track.frames_until_adaptation(1) == 4
    track.advance(torch.stack(images), 1)
    assert [track.adaptation_due(t) for t in (1, 2, 5)] == [False, False, True]
    extra = [frame_with_object(5)] if frames == "latest" else []
    if extra:
        track, adapter = start_track(online(frames=frames))
        track.advance(torch.stack([images[0], images[1], images[2], extra[0]]), 1)
    track.adapt_online(5)
    batches, start = adapter.adaptations[-1]
    assert len(batches) == 2
    expected_images = torch.stack([frame_with_object(c) for c in (0, *columns)])
    torch.testing.assert_close(batches[0][0], expected_images)
    torch.testing.assert_close(batches[0][1], (expected_images[:, 0] >= 0.5).to(torch.uint8))
    assert start is adapter.made[0]


@pytest.mark.parametrize(
    ("reset", "start_of_third"), [("first_frame", 0), ("meta_init", None), ("current", 1)]
)
def test_online_adaptation_starts_where_it_is_told(reset, start_of_third):
    track, adapter = start_track(online(reset=reset, every=1))
    for frame in (1, 2):
        track.advance(frame_with_object(frame)[None], frame)
        track.adapt_online(frame + 1)
    start = adapter.adaptations[-1][1]
    assert start is (None if start_of_third is None else adapter.made[start_of_third])


def test_a_segment_that_begins_lost_has_no_prior():
    track, adapter = start_track(online(every=1))
    track.advance(frame_with_object(None)[None], 1)
    track.adapt_online(2)
    track.advance(frame_with_object(3)[None], 2)
    assert adapter.segmenter.calls[-1] == (None, True)
    assert len(adapter.adaptations[-1][0][0][0]) == 1, "no predicted mask to learn from: the annotation alone"


def test_augmented_batches_are_a_pure_function_of_the_seed():
    image, mask = frame_with_object(4), (frame_with_object(4)[0] > 0.5).to(torch.uint8)
    finetune = Finetune(steps=2, batch_size=3)
    first, again = (list(first_frame_batches(image, mask, finetune, 7, "video")) for _ in range(2))
    other = list(first_frame_batches(image, mask, finetune, 8, "video"))
    assert [tuple(x.shape) for x in first[0]] == [(3, 3, *SIZE), (3, *SIZE)]
    assert all(
        torch.equal(a, b) for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True)
    )
    assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_fine_tuning_that_diverged_is_counted_and_said(recwarn):
    class Diverging(RecordingAdapter):
        def adapt(self, *arguments, **options) -> Segmenter:
            adapted = super().adapt(*arguments, **options)
            adapted.backbone.weight.data.fill_(torch.inf)
            return adapted

    frame = torch.zeros(3, *SIZE), torch.ones(SIZE, dtype=torch.uint8)
    assert ObjectTrack(RecordingAdapter(), Finetune(), *frame, 2, (0, "dog", 1)).diverged == 0
    assert not recwarn.list
    assert ObjectTrack(Diverging(), Finetune(), *frame, 2, (0, "dog", 1)).diverged == 1
    assert str(recwarn.pop().message) == DIVERGED
