"""One object's way through a video: priors, lost objects and online adaptation, with a segmenter that follows
a script.
"""

import pytest
import torch
from doubles import RecordingAdapter
from torch import Tensor

from eosvos.config.inference import Finetune, Online
from eosvos.inference.finetune import annotated_batches
from eosvos.inference.propagate import DIVERGED, ObjectTrack
from eosvos.models.segmenter import Segmenter

SIZE = (8, 10)


def frame_with_object(column: int | None, value: float = 0.9) -> Tensor:
    image = torch.zeros(3, *SIZE)
    if column is not None:
        image[0, 2:5, column : column + 2] = value
    return image


def start_track(finetune: Finetune) -> tuple[ObjectTrack, RecordingAdapter]:
    adapter = RecordingAdapter()
    mask = (frame_with_object(0)[0] > 0.5).to(torch.uint8)
    track = ObjectTrack(adapter, finetune, (0, "video", 1))
    track.annotate(frame_with_object(0), mask, 0)
    return track, adapter


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


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_track_with_another_ones_state_goes_on_as_that_one(cut):
    frames = torch.stack([frame_with_object(c) for c in (3, None, None, 7, 7)])
    whole, expected = start_track(Finetune(steps=1, augment=False))
    whole.advance(frames, 1)
    first, _ = start_track(Finetune(steps=1, augment=False))
    first.advance(frames[:cut], 1)
    adapter = RecordingAdapter()
    rest = ObjectTrack(adapter, Finetune(steps=1, augment=False), (0, "video", 1))
    rest.load_state_dict(first.state_dict())
    rest.advance(frames[cut:], 1 + cut)
    assert adapter.segmenter.calls == expected.segmenter.calls[cut:]


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


def test_predictions_from_before_a_correction_are_not_learned_from_after_it():
    track, adapter = start_track(online())
    track.advance(torch.stack([frame_with_object(c) for c in (1, 2)]), 1)
    corrected = frame_with_object(6)
    track.annotate(corrected, (corrected[0] > 0.5).to(torch.uint8), 3)
    track.advance(torch.stack([frame_with_object(c) for c in (7, None, None, None)]), 4)
    track.adapt_online(8)
    batches, _ = adapter.adaptations[-1]
    # The annotated frame, the latest first, and the only prediction since.
    for (images, _), annotated in zip(batches, (6, 0), strict=True):
        torch.testing.assert_close(images, torch.stack([frame_with_object(c) for c in (annotated, 7)]))


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
    first, again = (list(annotated_batches([(image, mask)], finetune, 7, "video")) for _ in range(2))
    other = list(annotated_batches([(image, mask)], finetune, 8, "video"))
    assert [tuple(x.shape) for x in first[0]] == [(3, 3, *SIZE), (3, *SIZE)]
    assert all(
        torch.equal(a, b) for pair in zip(first, again, strict=True) for a, b in zip(*pair, strict=True)
    )
    assert not torch.equal(first[0][0], other[0][0])
    assert not torch.equal(first[0][0], first[1][0])


def test_distinct_copies_are_those_of_the_first_steps_and_used_again(monkeypatch):
    annotated = [(frame_with_object(c), (frame_with_object(c)[0] > 0.5).to(torch.uint8)) for c in (4, 9)]

    def batches(**settings: int) -> list[list[bytes]]:
        made = annotated_batches(annotated, Finetune(steps=4, batch_size=2, **settings), 7, "video")
        return [[image.numpy().tobytes() for image in images] for images, _ in made]

    anew = batches()
    assert len({image for batch in anew for image in batch}) == 8
    assert batches(distinct_copies=8) == batches(distinct_copies=100) == anew
    assert batches(distinct_copies=4) == anew[:2] * 2
    [[a, b], [c, _]] = anew[:2]
    assert batches(distinct_copies=3) == [[a, b], [c, a], [b, c], [a, b]]
    # Both annotated frames are used, however few copies are asked for.
    assert batches(distinct_copies=1) == [[a, b]] * 4
    # Copies that no step takes are not made.
    made = []
    monkeypatch.setattr(
        "eosvos.inference.finetune.augment_frame", lambda *drawn: made.append(drawn) or drawn[:2]
    )
    assert len(batches(distinct_copies=100)) == 4
    assert len(made) == 8


def test_fine_tuning_that_diverged_is_counted_and_said(recwarn):
    class Diverging(RecordingAdapter):
        def adapt(self, *arguments, **options) -> Segmenter:
            adapted = super().adapt(*arguments, **options)
            adapted.backbone.weight.data.fill_(torch.inf)
            return adapted

    frame = torch.zeros(3, *SIZE), torch.ones(SIZE, dtype=torch.uint8)
    tracks = [
        ObjectTrack(adapter, Finetune(), (0, "dog", 1)) for adapter in (RecordingAdapter(), Diverging())
    ]
    tracks[0].annotate(*frame, 2)
    assert not recwarn.list
    tracks[1].annotate(*frame, 2)
    assert [track.diverged for track in tracks] == [0, 1]
    assert str(recwarn.pop().message) == DIVERGED


@pytest.mark.parametrize("frames", ["oldest", "latest"])
@pytest.mark.parametrize("lost", [(), (1, 2), (39, 40), tuple(range(3, 41)), tuple(range(1, 41))])
def test_of_a_long_segment_few_frames_are_kept_and_the_same_are_adapted_to(monkeypatch, frames, lost):
    settings = Online(every=40, steps=1, batch_size=3, frames=frames)
    images = torch.stack([frame_with_object(None if t in lost else t % 8) for t in range(1, 41)])
    images[:, 1, 0, 0] = torch.arange(40) / 40

    def adapted(kept: int) -> tuple[Tensor, int]:
        monkeypatch.setattr("eosvos.inference.propagate.MOST_KEPT", kept)
        track, adapter = start_track(Finetune(steps=1, augment=False, online=settings))
        track.advance(images, 1)
        held = len(track.state_dict()["recent"])
        track.adapt_online(41)
        return adapter.adaptations[-1][0][0][0], held

    (all_kept, held), (few_kept, few) = adapted(1000), adapted(2)
    assert (held, few < 6) == (40, True)
    assert torch.equal(all_kept, few_kept)
