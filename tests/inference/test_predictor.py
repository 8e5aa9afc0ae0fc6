"""Whole videos through the predictor: late objects, one frame, the last frame, chunks, memory, merging."""

import weakref

import numpy as np
import pytest
import torch
from doubles import RecordingAdapter, ScriptedSegmenter, light_learner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from eosvos.config.inference import Finetune, Online
from eosvos.config.meta import InnerLR
from eosvos.data.sequence import VideoSequence
from eosvos.errors import UserError
from eosvos.inference.merge import merge_objects
from eosvos.inference.predictor import Predictor
from eosvos.inference.resize import resized_mask
from eosvos.meta.learner import MetaLearner

SIZE = (8, 30)
PLAIN = Finetune(steps=1, augment=False)


def plain_online(**online: int) -> Finetune:
    return Finetune(steps=1, augment=False, online=Online(**online))


class MovingBlock(VideoSequence):
    """A red block that moves one column a frame; `annotations` says which frames show which objects where."""

    size = SIZE

    def __init__(self, num_frames: int, annotations: dict[int, dict[int, int]]) -> None:
        self.name = "block"
        self.frame_names = tuple(f"{t:05d}" for t in range(num_frames))
        self.annotations = annotations
        self.images: list[weakref.ref[Tensor]] = []

    @property
    def annotated_frames(self) -> tuple[int, ...]:
        return tuple(self.annotations)

    def image(self, t: int) -> Tensor:
        image = torch.zeros(3, *SIZE, dtype=torch.uint8)
        image[0, 2:5, t % 25 : t % 25 + 2] = 230
        self.images.append(weakref.ref(image))
        return image

    def mask(self, t: int) -> Tensor | None:
        if t not in self.annotations:
            return None
        mask = torch.zeros(SIZE, dtype=torch.uint8)
        for object_id, column in self.annotations[t].items():
            mask[2:5, column : column + 2] = object_id
        return mask


def run(
    sequence: VideoSequence, finetune: Finetune = PLAIN
) -> tuple[list[Tensor], Predictor, RecordingAdapter]:
    adapter = RecordingAdapter()
    predictor = Predictor(adapter, finetune)
    frames = list(predictor.segment(sequence))
    assert [name for name, _ in frames] == list(sequence.frame_names)
    return [labels for _, labels in frames], predictor, adapter


def test_an_object_is_followed_from_its_annotation_to_the_end():
    labels, predictor, adapter = run(MovingBlock(11, {0: {7: 0}}))
    for t, frame in enumerate(labels):
        assert frame.dtype == torch.uint8
        expected = torch.zeros(SIZE, dtype=torch.uint8)
        expected[2:5, t : t + 2] = 7
        assert torch.equal(frame, expected)
    assert len(adapter.adaptations) == predictor.timing.adaptations == 1
    assert predictor.timing.frames == 10


def test_frames_before_an_object_appears_are_empty_and_its_annotation_is_shown():
    labels, predictor, _adapter = run(MovingBlock(8, {3: {2: 10}}))
    assert all((frame == 0).all() for frame in labels[:3])
    assert labels[3][2:5, 10:12].tolist() == [[2, 2]] * 3
    assert (labels[3] != 0).sum() == 6, "the annotation, not the prediction"
    assert labels[4][2, 4] == 2
    assert predictor.timing.frames == 4


def test_a_later_object_takes_its_annotated_pixels_from_an_earlier_one():
    labels, _, adapter = run(MovingBlock(6, {0: {1: 0}, 3: {2: 3}}))
    assert labels[2][2, 2] == 1
    assert labels[3][2, 3] == 2, "annotated now"
    assert labels[4][2, 4] == 1, "equally probable: the first object"
    assert len(adapter.adaptations) == 2


def test_a_single_frame_and_an_object_on_the_last_frame_show_their_annotation():
    labels, _, _ = run(MovingBlock(1, {0: {1: 4}}))
    assert (labels[0] == 1).sum() == 6
    labels, _, _ = run(MovingBlock(5, {4: {3: 4}}))
    assert [(frame == 3).sum().item() for frame in labels] == [0, 0, 0, 0, 6]


def test_a_video_without_objects_is_refused():
    with pytest.raises(UserError, match="block: no mask shows an object"):
        run(MovingBlock(3, {0: {}}))


@pytest.mark.parametrize("feature_batch_size", [1, 3, 100])
def test_the_feature_batch_size_does_not_change_results(feature_batch_size):
    video = MovingBlock(12, {0: {1: 0}, 5: {2: 20}})
    online = plain_online(every=4, steps=1)
    expected, _, reference = run(video, online.model_copy(update={"feature_batch_size": 2}))
    labels, _, adapter = run(video, online.model_copy(update={"feature_batch_size": feature_batch_size}))
    assert all(torch.equal(a, b) for a, b in zip(labels, expected, strict=True))
    assert sorted(map(str, adapter.segmenter.calls)) == sorted(map(str, reference.segmenter.calls))


def test_online_adaptation_happens_every_so_many_frames_of_each_object_and_not_after_the_end():
    online = plain_online(every=5, steps=2)
    _, _predictor, adapter = run(MovingBlock(11, {0: {1: 0}}), online)
    assert len(adapter.adaptations) == 2, (
        "on the first frame and before frame 6, not after frame 10, the last"
    )
    _, _, adapter = run(MovingBlock(12, {0: {1: 0}, 4: {2: 4}}), online)
    assert len(adapter.adaptations) == 2 + 2 + 1, "object 1 before frames 6 and 11, object 2 before frame 10"


def test_a_fixed_learning_rate_takes_the_place_of_the_learned_ones():
    torch.manual_seed(0)
    learner = MetaLearner(ScriptedSegmenter(), InnerLR(level="single", init=0.1))
    predictor = Predictor(learner, Finetune(steps=1, augment=False, fixed_lr=0.5))
    list(predictor.segment(MovingBlock(3, {0: {1: 0}})))
    assert predictor.adapter.inner_lrs()[0].item() == 0.5
    assert learner.inner_lrs()[0].item() == pytest.approx(0.1)


def test_frames_are_let_go_while_the_video_goes_by():
    video = MovingBlock(60, {0: {1: 0}})
    online = plain_online(every=5, steps=1)
    most = 0
    for _ in Predictor(RecordingAdapter(), online).segment(video):
        most = max(most, sum(ref() is not None for ref in video.images))
    assert most <= 6


def test_frames_in_memory_are_segmented_as_the_same_video():
    video = MovingBlock(6, {0: {7: 0}, 2: {9: 20}})
    expected, _, _ = run(video)
    frames = torch.stack([video.image(t) for t in range(6)])
    masks = {t: video.mask(t) for t in (0, 2)}
    for same in (frames, frames.permute(0, 2, 3, 1).numpy(), list(frames.double() / 255)):
        labels = Predictor(RecordingAdapter(), PLAIN).segment_frames(same, masks)
        assert all(torch.equal(a, b) for a, b in zip(labels, expected, strict=True))
    only_first, _, _ = run(MovingBlock(6, {0: {7: 0}}))
    labels = Predictor(RecordingAdapter(), PLAIN).segment_frames(frames, np.asarray(masks[0], np.int64))
    assert all(torch.equal(a, b) for a, b in zip(labels, only_first, strict=True))
    with pytest.raises(UserError, match=r"size \[8, 30\], not tensor uint8 \[8, 20\]"):
        Predictor(RecordingAdapter(), PLAIN).segment_frames(frames, masks[0][:, :20])


@pytest.mark.parametrize("wrong", ["image", "mask"])
def test_what_a_video_returns_is_checked_as_it_enters(wrong):
    class Wrong(MovingBlock):
        change = staticmethod(lambda x: x)

        def image(self, t: int) -> Tensor:
            return self.change(super().image(t)) if wrong == "image" and t == 2 else super().image(t)

        def mask(self, t: int) -> Tensor | None:
            return self.change(super().mask(t)) if wrong == "mask" and t == 0 else super().mask(t)

    size = "3, 8, 30" if wrong == "image" else "8, 30"
    for change, returned in {
        lambda x: x / 255: rf"tensor float32 \[{size}\]",
        lambda x: x[None]: rf"tensor uint8 \[1, {size}\]",
        lambda x: x[..., :20]: rf"tensor uint8 \[{size[:-2]}20\]",
        lambda x: x[:1]: r"tensor uint8 \[1, ",
        lambda x: x.movedim(0, -1): r"tensor uint8 \[(8, 30, 3|30, 8)\]",
        lambda x: x.numpy(): rf"array uint8 \[{size}\]",
        lambda x: x.tolist(): "list",
        lambda x: x.to("meta"): rf"tensor uint8 \[{size}\] on meta",
    }.items():
        t = 2 if wrong == "image" else 0
        wanted = rf"block: {wrong}\({t}\) must return a tensor, uint8 \[{size}\] on the CPU, not {returned}"
        video = Wrong(4, {0: {1: 0}})
        video.change = change
        with pytest.raises(UserError, match=wanted):
            run(video)


def test_a_mask_of_a_frame_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="block: there is no frame 5 of 3"):
        run(MovingBlock(3, {0: {1: 0}, 5: {2: 0}}))


def test_videos_that_one_predictor_segments_at_once_do_not_disturb_each_other():
    learner = light_learner()
    online = Online(every=2, steps=1, batch_size=2)
    finetune = Finetune(steps=2, batch_size=2, feature_batch_size=2, online=online)
    videos = [MovingBlock(7, {0: {1: 0}, 3: {2: 12}}), MovingBlock(7, {1: {3: 1}})]
    alone = [list(Predictor(learner, finetune).segment(video)) for video in videos]
    predictor = Predictor(learner, finetune)
    pairs = zip(*(predictor.segment(video) for video in videos), strict=True)
    for together, apart in zip(zip(*pairs, strict=True), alone, strict=True):
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(together, apart, strict=True))
    assert len({int((labels > 0).sum()) for _, labels in alone[0]}) > 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 254), min_size=1, max_size=4, unique=True), st.integers(0, 2**31))
def test_merging_gives_each_pixel_to_its_most_probable_object(ids, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = {i: torch.rand(3, 4, generator=generator) for i in ids}
    merged = merge_objects(maps, (3, 4))
    for y in range(3):
        for x in range(4):
            best = max(ids, key=lambda i: maps[i][y, x].item())
            assert merged[y, x] == (best if maps[best][y, x] >= 0.5 else 0)


class NotingAdapter(RecordingAdapter):
    """Notes the sizes of what it is given to adapt to."""

    def adapt(self, batches, *, start=None):
        batches = list(batches)
        self.sizes = {tuple(tensor.shape[-2:]) for batch in batches for tensor in batch}
        return super().adapt(batches, start=start)


@pytest.mark.parametrize(("short_side", "size"), [(16, (16, 60)), (None, SIZE)])
def test_the_network_sees_frames_of_the_size_that_is_asked_for_and_masks_have_that_of_the_video(
    short_side, size
):
    adapter = NotingAdapter()
    sequence = MovingBlock(11, {0: {7: 0}})
    predictor = Predictor(adapter, PLAIN.model_copy(update={"short_side": short_side}))
    labels = [frame for _, frame in predictor.segment(sequence)]
    assert adapter.sizes == {size}
    for t, frame in enumerate(labels):
        expected = torch.zeros(SIZE, dtype=torch.uint8)
        expected[2:5, t : t + 2] = 7
        assert torch.equal(frame, expected)


def test_the_smallest_object_is_still_there_in_a_smaller_frame():
    mask = torch.zeros(64, 48, dtype=torch.uint8)
    mask[0, 0], mask[40:, :] = 1, 255
    small = resized_mask(mask, (16, 12))
    assert (small == 1).nonzero().tolist() == [[0, 0]]
    assert torch.equal(small[1:] == 255, mask[4::4, ::4] == 255)
    mask[8:24, 8:16] = 1
    assert torch.equal(resized_mask(mask, (16, 12)), mask[2::4, 2::4])
