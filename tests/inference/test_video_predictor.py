"""One video, frame by frame: the same as a whole sequence; new objects, corrections, removal, bad input."""

import copy
import weakref

import numpy as np
import pytest
import torch
from doubles import RecordingAdapter, light_learner
from test_predictor import PLAIN, SIZE, MovingBlock, plain_online

from eosvos.config.inference import Finetune, Online
from eosvos.errors import UserError
from eosvos.inference.predictor import Predictor
from eosvos.inference.video import VideoPredictor

BLOCK = MovingBlock(20, {0: {1: 0}})


def mask(object_id: int, column: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[2:5, column : column + 2] = object_id
    return mask


def started(finetune: Finetune = PLAIN) -> tuple[VideoPredictor, RecordingAdapter]:
    """A video after its first frame, in which object 1 is annotated."""
    adapter = RecordingAdapter()
    video = Predictor(adapter, finetune).video()
    video.step(BLOCK.image(0), mask(1, 0))
    return video, adapter


def columns(labels: torch.Tensor, object_id: int) -> list[int]:
    return (labels == object_id).any(0).nonzero().flatten().tolist()


def test_frame_by_frame_is_the_same_as_a_whole_sequence():
    learner = light_learner()
    online = Online(every=2, steps=1, batch_size=2)
    finetune = Finetune(steps=2, batch_size=2, feature_batch_size=1, online=online)
    predictor = Predictor(learner, finetune, seed=3)
    sequence = MovingBlock(8, {1: {1: 1}, 3: {2: 12}})
    expected = [labels for _, labels in predictor.segment(sequence)]
    video = predictor.video(sequence.name)
    for t, labels in enumerate(expected):
        image, given = sequence.image(t), sequence.mask(t)
        if t % 2:
            image, given = image.permute(1, 2, 0).numpy(), None if given is None else given.numpy()
        assert torch.equal(video.step(image, given), labels), t
    assert len({int((labels > 0).sum()) for labels in expected}) > 2
    timing = video.timing
    assert (timing.steps, timing.frames, timing.adaptations) == (8, 6, 2 + 2 + 1)
    assert timing.seconds_per_step * 8 == pytest.approx(
        timing.adaptation_seconds + timing.propagation_seconds
    )
    assert timing.seconds_per_step > 0


def test_a_new_object_comes_at_any_time_and_goes_when_it_is_removed():
    video, _ = started()
    assert columns(video.step(BLOCK.image(1), mask(9, 20)), 9) == [20, 21]
    assert video.object_ids == (1, 9)
    video.remove(1)
    assert columns(video.step(BLOCK.image(2)), 9) == [2, 3]
    video.remove(9)
    assert not video.step(BLOCK.image(3)).any()
    with pytest.raises(UserError, match=r"^object_id must be that of a followed object \(none\), not 9$"):
        video.remove(9)
    assert columns(video.step(BLOCK.image(4), mask(9, 15)), 9) == [15, 16]


def test_a_correction_is_shown_and_adapted_to_with_all_annotated_frames():
    video, adapter = started(plain_online(every=3, steps=4, batch_size=2))
    for t in (1, 2, 3):
        video.step(BLOCK.image(t))
    labels = video.step(BLOCK.image(4), mask(1, 10))
    assert columns(labels, 1) == [10, 11], "the correction"
    assert len(adapter.adaptations) == 2, "no online adaptation, which the correction makes void"
    batches, start = adapter.adaptations[-1]
    assert start is None, "from the meta-learned weights"
    (images, masks) = batches[0]
    assert [images[i, 0].max(0).values.nonzero()[0].item() for i in range(3)] == [4, 0, 4]
    assert [columns(one, 1)[0] for one in masks] == [10, 0, 10]
    calls = len(adapter.segmenter.calls)
    for t in (5, 6, 7):
        assert columns(video.step(BLOCK.image(t)), 1) == [t, t + 1]
    assert adapter.segmenter.calls[calls][0] == [10, 2, 12, 5], "followed from the corrected box"
    video.step(BLOCK.image(8))
    batches, start = adapter.adaptations[-1]
    assert start is adapter.made[1], "from the weights after the correction"
    assert [[columns(one, 1)[0] for one in masks] for _, masks in batches] == [[10, 5], [0, 5]] * 2


def test_a_correction_leaves_other_objects_as_they_are():
    video, adapter = started()
    video.step(BLOCK.image(1), mask(2, 20))
    adaptations = len(adapter.adaptations)
    labels = video.step(BLOCK.image(2), mask(2, 14))
    assert columns(labels, 2) == [14, 15]
    assert columns(labels, 1) == [2, 3]
    assert len(adapter.adaptations) == adaptations + 1


def test_frames_are_let_go_one_by_one():
    video, _ = started(plain_online(every=3, steps=1))
    frames = []
    for t in range(1, 20):
        image = BLOCK.image(t)
        frames.append(weakref.ref(image))
        video.step(image)
        del image
        assert sum(ref() is not None for ref in frames) <= 1


@pytest.mark.parametrize(
    ("image", "given", "said"),
    [
        (np.zeros((4, *SIZE), np.uint8), None, r"image must be .*, not array uint8 \[4, 8, 30\]"),
        (np.zeros((*SIZE, 3), int), None, r"image must be .*, not array int64 \[8, 30, 3\]"),
        (torch.full((3, *SIZE), 1.5), None, "image must be .* with values from 1.5 to 1.5"),
        ("frame.png", None, "image must be .*, not str"),
        (torch.zeros(3, 8, 20), None, r"image must be .*, of the video's size \[8, 30\], not \[8, 20\]"),
        (BLOCK.image(1), mask(1, 0)[:, :9], r"mask must be .*size \[8, 30\], not array uint8 \[8, 9\]"),
        (BLOCK.image(1), torch.zeros(SIZE), r"mask must be .*, not tensor float32"),
        (BLOCK.image(1), mask(1, 0).astype(int) * 300, "mask must be .*, not values from 0 to 300"),
        (BLOCK.image(1), mask(0, 0), "mask must be .*; this one shows no object"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_the_video_as_it_is(image, given, said):
    video, _ = started()
    with pytest.raises(UserError, match=f"^{said}") as error:
        video.step(image, given)
    assert "\n" not in str(error.value)
    assert columns(video.step(BLOCK.image(1)), 1) == [1, 2]


def test_a_step_that_is_interrupted_is_as_if_it_had_not_been_taken(monkeypatch):
    video, adapter = started()
    video.step(BLOCK.image(1))
    with monkeypatch.context() as patch:
        patch.setattr(adapter, "adapt", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            video.step(BLOCK.image(2), mask(1, 5))
    assert video.timing.steps == 2
    assert columns(video.step(BLOCK.image(2), mask(1, 5)), 1) == [5, 6]
    assert len(video.state_dict()["tracks"][1]["annotated"]) == 2


def test_a_first_step_that_is_interrupted_fixes_no_size(monkeypatch):
    adapter = RecordingAdapter()
    video = Predictor(adapter, PLAIN).video()
    with monkeypatch.context() as patch:
        patch.setattr(adapter, "adapt", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            video.step(BLOCK.image(0), mask(1, 0))
    assert video.step(BLOCK.image(0)[:, :, :20], mask(1, 0)[:, :20]).shape == (8, 20)


def test_a_copy_goes_on_by_itself_from_the_same_frame():
    video, adapter = started(plain_online(every=3, steps=4, batch_size=2))
    for t in range(1, 5):
        video.step(BLOCK.image(t))
    kept = copy.copy(video)
    expected = [video.step(BLOCK.image(t)) for t in range(5, 10)]
    video.step(BLOCK.image(10), mask(9, 3))
    calls = len(adapter.adaptations)
    assert kept.object_ids == (1,)
    assert kept.timing.steps == 5
    again = copy.copy(kept)
    assert [torch.equal(again.step(BLOCK.image(5 + i)), labels) for i, labels in enumerate(expected)] == [
        True
    ] * 5
    assert len(adapter.adaptations) == calls + 1
    assert columns(kept.step(BLOCK.image(5), mask(1, 20)), 1) == [20, 21]
    images, _ = adapter.adaptations[-1][0][0]
    annotated = torch.stack([BLOCK.image(t) for t in (5, 0, 5)])
    assert torch.equal(images, annotated.float() / 255), "what the others took is not there"


@pytest.mark.parametrize("reset", ["first_frame", "current"])
def test_a_state_that_is_stored_goes_on_as_if_nothing_had_happened(tmp_path, reset):
    online = Online(every=2, steps=1, batch_size=2, reset=reset)
    predictor = Predictor(light_learner(), Finetune(steps=2, batch_size=2, online=online), seed=3)
    given = {0: mask(1, 0), 2: mask(9, 20), 6: mask(1, 12)}
    video = predictor.video()
    for t in range(10):
        stored = video.state_dict()
        torch.save(stored, tmp_path / "state.pt")
        again = predictor.video()
        again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert again.timing == video.timing
        assert again.object_ids == video.object_ids
        steps = [one.step(BLOCK.image(t), given.get(t)) for one in (video, again)]
        assert torch.equal(*steps), t
        weights = [one.state_dict()["tracks"][1]["segmenter"] for one in (video, again)]
        assert (weights[0] is None) == (weights[1] is None)
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] or {})
    assert weights[0] is not None, "adapted online since the correction"


def test_a_state_does_not_change_with_the_video_that_it_is_of():
    video = Predictor(light_learner(), Finetune(steps=1, batch_size=1), seed=3).video()
    video.step(BLOCK.image(0), mask(1, 0))
    state = video.state_dict()
    video.step(BLOCK.image(1), mask(1, 20))
    assert len(state["tracks"][1]["annotated"]) == 1
