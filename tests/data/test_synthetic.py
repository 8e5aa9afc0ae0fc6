import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch

from eosvos.config.data import Synthetic
from eosvos.data.synthetic import SPLITS, SyntheticVideo, synthetic_videos


def video_of(index=0, **settings):
    return SyntheticVideo(index, Synthetic(**settings))


def videos_of(split, num_videos, **settings):
    return synthetic_videos(Synthetic(split=split, num_videos=num_videos, **settings))


def frames(video):
    return [(video.image(t), video.mask(t)) for t in range(video.num_frames)]


def overlap(a, b):
    return float((a & b).sum() / max(1, (a | b).sum()))


@pytest.fixture(scope="module")
def videos():
    return videos_of("val", 40)


def test_a_video_is_a_function_of_seed_and_index():
    first = frames(video_of(5, seed=3))
    _ = frames(video_of(6, seed=3))
    for (image, mask), (other_image, other_mask) in zip(
        first[::-1], reversed(frames(video_of(5, seed=3))), strict=True
    ):
        assert torch.equal(image, other_image)
        assert torch.equal(mask, other_mask)
    for other in (video_of(6, seed=3), video_of(5, seed=4)):
        assert not torch.equal(first[0][0], other.image(0))


def test_frames_do_not_depend_on_the_length_or_on_the_order_of_reading():
    short, long = video_of(1, num_frames=2), video_of(1, num_frames=500)
    late = long.image(499)
    assert torch.equal(short.image(1), long.image(1))
    assert torch.equal(long.image(-1), late)


@pytest.mark.parametrize("size", [(32, 32), (64, 200), (240, 427)])
def test_any_size(size):
    video = video_of(size=[*size], num_frames=3)
    assert video.size == size
    assert video.image(2).shape == (3, *size)
    assert video.mask(2).shape == size
    assert video.image(2).dtype == video.mask(2).dtype == torch.uint8


def test_every_object_is_visible_in_the_first_frame(videos):
    for video in videos:
        mask = video.mask(0)
        assert sorted(mask.unique().tolist()) == [0, *video.object_ids]
        for object_id in video.object_ids:
            assert int((mask == object_id).sum()) >= 48
            assert video.first_frame(object_id) == 0


def test_masks_show_ids_only_and_every_count_of_objects_occurs(videos):
    assert {video.num_objects for video in videos} == {1, 2, 3}
    for video in videos[:10]:
        for _, mask in frames(video):
            assert set(mask.unique().tolist()) <= {0, *video.object_ids}
    assert all(v.num_objects == 1 for v in videos_of("val", 10, max_objects=1))


def test_copying_the_first_mask_does_not_do(videos):
    scores = [
        np.mean([overlap(video.mask(0) == i, video.mask(t) == i) for t in range(1, video.num_frames - 1)])
        for video in videos
        for i in video.object_ids
    ]
    assert 0.2 < np.mean(scores) < 0.35


def test_colour_alone_does_not_tell_objects_apart(videos):
    """Take the pixels within a box of the first mask's colours: distractors and ground are in it, too."""
    scores = []
    for video in videos[:20]:
        first, mask = video.image(0).float(), video.mask(0)
        for i in video.object_ids:
            inside = first[:, mask == i]
            low, high = inside.quantile(0.05, dim=1), inside.quantile(0.95, dim=1)
            image = video.image(5).float()
            guess = ((image >= low[:, None, None]) & (image <= high[:, None, None])).all(0)
            scores.append(overlap(guess, video.mask(5) == i))
    assert np.mean(scores) < 0.55


def test_splits_never_overlap():
    ranges = sorted(SPLITS.values(), key=lambda indices: indices.start)
    assert all(a.stop <= b.start for a, b in pairwise(ranges))
    names = [{s.name for s in videos_of(split, 50)} for split in SPLITS]
    assert len(set.union(*names)) == 150


def test_the_task_source_is_fresh_videos_of_the_training_split():
    source = synthetic_videos(Synthetic(size=[64, 64], num_frames=4))
    assert len(source) == len(SPLITS["train"])
    names = set()
    chosen = set()
    for i in range(50):
        video, object_id = source[i]
        assert object_id in video.object_ids
        assert (video.size, video.num_frames) == ((64, 64), 4)
        names.add(video.name)
        chosen.add(object_id)
    assert len(names) == 50
    assert chosen == {1, 2, 3}
    assert source[7][1] == source[7][1]
    assert names.isdisjoint(s.name for split in ("val", "test") for s in videos_of(split, 100))


def test_videos_are_small_when_pickled():
    video = video_of(0, seed=0)
    mask = video.mask(3)
    blob = pickle.dumps(video)
    assert len(blob) < 2000
    assert torch.equal(pickle.loads(blob).mask(3), mask)


def test_a_video_ends_after_its_last_frame():
    with pytest.raises(IndexError):
        video_of().image(10)
