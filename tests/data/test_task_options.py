"""Kinds of tasks: sub-groups of objects, no labels, inverted labels, videos with one object, crops."""

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eosvos.config.data import Augmentation, Davis, Synthetic, Tasks, YouTubeVOS
from eosvos.data.augment import crop_frame, object_remains
from eosvos.data.datamodule import VOSDataModule
from eosvos.data.davis import davis_sequences
from eosvos.data.sequence import VideoSequence
from eosvos.data.synthetic import synthetic_videos
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import TaskSampler
from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError


class Striped(VideoSequence):
    """Four frames of value 100; object i is a row of its own, of value 100 + i, and one pixel is ignored."""

    def __init__(self, name, objects):
        self.name, self.objects = name, objects
        self.frame_names = tuple(f"{t:05d}" for t in range(4))

    @property
    def size(self):
        return 20, 24

    @property
    def annotated_frames(self):
        return 0, 1, 2, 3

    def image(self, t):
        return torch.where(self.mask(t) == 255, 0, self.mask(t)).add(100).expand(3, -1, -1)

    def mask(self, t):
        mask = torch.zeros(20, 24, dtype=torch.uint8)
        for object_id in self.objects:
            mask[object_id, 4:12] = object_id
        mask[11, 15] = 255
        return mask


def drawn(videos, count=60, **tasks):
    """The first tasks, as the data module draws them."""
    settings = Tasks(**{"augment": None, **tasks})
    data = VOSDataModule([TrainingSet(videos)], {}, {}, settings, iterations=count, batch_size=1)
    return [task for batch in data.train_dataloader() for task in batch]


def rows(mask):
    return frozenset((mask == 1).any(1).nonzero()[:, 0].tolist())


def test_the_object_of_a_group_is_the_union_of_any_of_the_videos_objects():
    tasks = drawn([Striped("three", [1, 2, 5])], 300, object_groups=1.0)
    groups = Counter(rows(task.support_masks[0]) for task in tasks)
    assert set(groups) == {frozenset(group) for group in ([1, 2], [1, 5], [2, 5], [1, 2, 5])}
    assert min(groups.values()) > 20
    for task in tasks:
        assert torch.equal(task.support_masks, task.query_masks)
        assert task.object_id in rows(task.support_masks[0])
        assert (task.support_masks == 255).sum() == 1


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.3, 40, 80), (1.0, 200, 200)])
def test_this_share_of_tasks_is_of_each_kind(share, low, high):
    videos = [Striped("two", [1, 2])]
    plain = drawn(videos, 200)
    for name in ("object_groups", "no_label", "label_inversion"):
        tasks = drawn(videos, 200, **{name: share})
        # Without sub-groups, nothing but the masks is otherwise: the kind is drawn last.
        if name != "object_groups":
            pairs = zip(tasks, plain, strict=True)
            assert all(torch.equal(a.query_images, b.query_images) for a, b in pairs)
        pairs = zip(tasks, plain, strict=True)
        other = sum(not torch.equal(a.support_masks, b.support_masks) for a, b in pairs)
        assert low <= other <= high


def test_labels_are_left_out_or_inverted_in_all_frames_but_where_they_are_ignored():
    videos = [Striped("one", [3])]
    for task in drawn(videos, 5, no_label=1.0, label_inversion=1.0):
        assert task.support_masks.unique().tolist() == task.query_masks.unique().tolist() == [0, 255]
    for plain, task in zip(drawn(videos, 5), drawn(videos, 5, label_inversion=1.0), strict=True):
        for before, after in zip(plain.query_masks, task.query_masks, strict=True):
            assert torch.equal(after == 1, before == 0)
            assert torch.equal(after == 255, before == 255)


FRESH = synthetic_videos(Synthetic())
ONE, TWO = Striped("one", [3]), Striped("two", [1, 2])


@pytest.mark.parametrize(
    ("choice", "names"),
    [("keep", {"one", "two"}), ("ignore", {"two"}), ("only", {"one"}), ("augment", {"one", "two"})],
)
def test_videos_with_one_object_are_kept_or_left_out(choice, names):
    assert {task.sequence for task in drawn([ONE, TWO], single_object_videos=choice)} == names


def test_an_object_of_another_video_is_pasted_over_that_of_a_video_with_one():
    tasks = drawn([ONE, TWO], 200, single_object_videos="augment")
    seen = set()
    for task in tasks:
        images = torch.cat([task.support_images, task.query_images]).mul(255).round().int()[:, 0]
        masks = torch.cat([task.support_masks, task.query_masks])
        if task.sequence == "two":
            assert set(images.unique().tolist()) == {100, 101, 102}
            continue
        for image, mask in zip(images, masks, strict=True):
            assert torch.equal(mask == 1, image == 103)
            assert {100} < set(image.unique().tolist()) <= {100, 101, 102, 103}
            seen.add(int((mask == 1).sum()))
    # Of eight pixels, at least two are never covered.
    assert min(seen) < 6
    assert {8} < seen <= set(range(2, 9))


@pytest.mark.parametrize(
    ("videos", "tasks", "said"),
    [
        ([TWO], {"single_object_videos": "only"}, "single_object_videos=only leaves no training video"),
        ([ONE], {"single_object_videos": "ignore"}, "single_object_videos=ignore leaves no training video"),
        ([ONE], {"single_object_videos": "augment"}, "needs a second training video"),
        ([ONE], {"object_groups": 0.5}, "object_groups=0.5, but no training video has two objects"),
        (
            synthetic_videos(Synthetic()),
            {"single_object_videos": "ignore"},
            "needs a list of training videos",
        ),
        ([(ONE, 3)], {"single_object_videos": "only"}, "needs a list of training videos"),
    ],
)
def test_kinds_that_the_videos_do_not_have_are_refused(videos, tasks, said):
    with pytest.raises(UserError, match=said):
        drawn(videos, **tasks)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    size=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    crop=st.tuples(st.integers(16, 30), st.integers(16, 30)),
    box=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_a_crop_has_its_size_and_keeps_the_object(seed, size, crop, box):
    top, bottom = sorted(int(x * (size[0] - 1)) for x in box[:2])
    left, right = sorted(int(x * (size[1] - 1)) for x in box[2:])
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[top : bottom + 1, left : right + 1] = 1
    place = torch.arange(size[0] * size[1]).reshape(1, *size).expand(3, -1, -1)
    image, cropped = crop_frame((place, mask), crop, torch.Generator().manual_seed(seed))
    assert cropped.shape == image.shape[1:] == tuple(map(min, size, crop))
    assert object_remains(mask, cropped)
    first = int(image[0, 0, 0])
    rows, columns = (slice(at, at + n) for at, n in zip(divmod(first, size[1]), cropped.shape, strict=True))
    assert torch.equal(cropped, mask[rows, columns])
    assert torch.equal(image, place[:, rows, columns])


def test_crops_reach_every_place_and_of_a_huge_object_hold_as_much_as_they_can():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    mask[9, 9] = 1
    place = torch.arange(400).reshape(1, 20, 20)
    corners = {int(crop_frame((place, mask), (4, 4), generator)[0][0, 0, 0]) for _ in range(400)}
    assert corners == {20 * y + x for y in range(6, 10) for x in range(6, 10)}
    everything = torch.ones(20, 20, dtype=torch.uint8)
    assert int(crop_frame((place, everything), (4, 4), generator)[1].sum()) == 16


def test_every_frame_of_a_task_has_a_crop_of_its_own_whatever_else_is_done_to_it():
    tasks = drawn([ONE, TWO], 40, crop=[16, 18], query_frames=2, augment=Augmentation(copy_paste=1.0))
    assert {task.support_images.shape for task in tasks} == {(1, 3, 16, 18)}
    assert {task.query_masks.shape for task in tasks} == {(2, 16, 18)}
    assert all((mask == 1).any() for task in tasks for mask in (*task.support_masks, *task.query_masks))


def test_full_resolution_with_a_crop(shared):
    """DAVIS 2016 as it is on disk, without reduction; a crop larger than a frame in one direction."""
    davis = Davis(root=str(shared / "davis2016"), year="2016", split="train")
    tasks = Tasks(crop=[256, 4000], query_frames=2)
    height, width = davis_sequences(davis)[0].size
    task = TaskSampler([TrainingSet(davis_sequences(davis))], tasks, 1).sample(0, 0)
    assert height > 256
    assert task.query_images.shape == (2, 3, 256, width)


def test_the_window_of_youtube_vos_counts_frames_of_which_every_fifth_is_annotated(disk, labels):
    names = [f"{5 * t:05d}" for t in range(8)]
    for name in names:
        disk.frame(f"train/JPEGImages/zoo/{name}.jpg", value=int(name))
        disk.mask(f"train/Annotations/zoo/{name}.png", labels(1))
    objects = {"1": {"category": "ape", "frames": names}}
    disk.text("train/meta.json", json.dumps({"videos": {"zoo": {"objects": objects}}}))
    for window, expected in ((4, {0}), (5, {0, 5}), (14, {0, 5, 10})):
        videos = youtube_vos_sequences(YouTubeVOS(root=str(disk.root)))
        distances = set()
        for task in drawn(videos, 60, frame_window=window):
            support, query = (x[0, 0].mean() * 255 for x in (task.support_images, task.query_images))
            distances.add(5 * round(abs(float(query - support)) / 5))
        assert distances == expected
