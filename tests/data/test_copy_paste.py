"""Copy-paste augmentation: objects of two videos in one frame."""

from collections import Counter

import pytest
import torch

from eosvos.config.data import Augmentation, Tasks
from eosvos.data.copy_paste import add_objects, copy_paste_frames
from eosvos.data.sequence import VideoSequence
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import TaskSampler


def frame(background, colour, box, size=(20, 30), ignored=None):
    """An image of one value, and an object, a rectangle of another."""
    image, mask = torch.full((3, *size), background), torch.zeros(size, dtype=torch.uint8)
    top, left, bottom, right = box
    image[:, top:bottom, left:right] = colour
    mask[top:bottom, left:right] = 1
    if ignored is not None:
        mask[ignored] = 255
    return image, mask


def pasted(own, other, seed, count=1):
    return copy_paste_frames([own] * count, [other] * count, torch.Generator().manual_seed(seed))


OWN = frame(0.1, 0.9, (5, 5, 11, 13), ignored=(0, 0))
OTHER = frame(0.2, 0.7, (2, 3, 7, 20))


def test_the_mask_is_that_of_the_tasks_object_whatever_the_background():
    backgrounds_seen = Counter()
    for seed in range(60):
        [(image, mask)] = pasted(OWN, OTHER, seed)
        own, other = (image[0] - 0.9).abs() < 1e-6, (image[0] - 0.7).abs() < 1e-6
        assert torch.equal(mask == 1, own)
        assert 0.25 * 48 <= int(own.sum()) <= 48
        assert other.any()
        in_task_frame = bool((image - 0.1).abs().min() < 1e-6)
        assert bool((image - 0.2).abs().min() < 1e-6) != in_task_frame
        assert bool((mask == 255).any()) <= in_task_frame
        backgrounds_seen[in_task_frame] += 1
    assert min(backgrounds_seen.values()) > 15


def test_support_and_query_share_the_background_and_differ_in_position():
    for seed in range(20):
        (first, _), (second, _) = pasted(OWN, OTHER, seed, count=2)
        backgrounds = [bool((image - 0.1).abs().min() < 1e-6) for image in (first, second)]
        assert backgrounds[0] == backgrounds[1]
    assert not torch.equal(first, second)


def test_what_comes_in_is_left_alone_and_the_draws_are_the_generators():
    before = [value.clone() for value in (*OWN, *OTHER)]
    results = [pasted(OWN, OTHER, 5)[0] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, (*OWN, *OTHER), strict=True))


def test_frames_of_another_size_are_fitted():
    for seed in range(10):
        [(image, mask)] = pasted(OWN, frame(0.2, 0.7, (4, 6, 14, 40), size=(40, 60)), seed)
        assert image.shape == (3, 20, 30)
        assert mask.shape == (20, 30)
        own, other = (image[0] - 0.9).abs() < 1e-6, (image[0] - 0.7).abs() < 1e-3
        assert torch.equal(mask == 1, own)
        # A quarter of 10 x 34 pixels, less what is outside or covered.
        assert 0 < int(other.sum()) <= 5 * 18


def test_an_object_that_would_vanish_leaves_the_frame_as_it_was():
    everything = frame(0.2, 0.7, (0, 0, 20, 30))
    tiny = frame(0.1, 0.9, (10, 15, 11, 16))
    outcomes = [pasted(tiny, everything, seed)[0] for seed in range(30)]
    assert all(int((mask == 1).sum()) == 1 for _, mask in outcomes)
    for image, mask in outcomes:
        assert torch.equal(mask == 1, (image[0] - 0.9).abs() < 1e-6)


class Plain(VideoSequence):
    """Two frames of one value each, whose object is a square of the same value."""

    def __init__(self, name, value, shown=True):
        self.name, self.value, self.shown = name, value, shown
        self.frame_names = ("00000", "00001")

    @property
    def size(self):
        return 20, 30

    @property
    def annotated_frames(self):
        return 0, 1

    def image(self, t):
        return torch.full((3, 20, 30), self.value, dtype=torch.uint8)

    def mask(self, t):
        mask = torch.zeros(20, 30, dtype=torch.uint8)
        mask[5:10, 5:10] = int(self.shown)
        return mask


def copy_paste_sampler(objects, probability):
    """Draws tasks of these objects, one a meta iteration, without any other augmentation."""
    still = Augmentation(
        flip=0, rotation=0, scale_min=1, scale_max=1, brightness=0, contrast=0, saturation=0, hue=0
    )
    augment = still.model_copy(update={"copy_paste": probability})
    return TaskSampler([TrainingSet(objects)], Tasks(augment=augment), 1)


def values(task):
    return [sorted(image.mul(255).round().unique().int().tolist()) for image in task.support_images]


@pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (0.5, 30, 70), (1.0, 100, 100)])
def test_this_share_of_tasks_shows_another_video(share, low, high):
    objects = [(Plain("a", 10), 1), (Plain("b", 20), 1), (Plain("c", 30, shown=False), 1)]
    sampler = copy_paste_sampler(objects, share)
    tasks = [sampler.sample(i, 0) for i in range(100)]
    assert low <= sum(values(task) == [[10, 20]] for task in tasks) <= high
    again = copy_paste_sampler(objects, share).sample(7, 0)
    assert torch.equal(again.support_images, tasks[7].support_images)
    assert torch.equal(again.query_masks, tasks[7].query_masks)


def test_a_single_video_gets_no_copy_paste():
    task = copy_paste_sampler([(Plain("a", 10), 1), (Plain("a", 10), 1)], 1.0).sample(0, 0)
    assert values(task) == [[10]]


def test_no_augmentation_is_no_copy_paste_either():
    objects = [(Plain("a", 10), 1), (Plain("b", 20), 1)]
    sampler = TaskSampler([TrainingSet(objects)], Tasks(augment=None), 1)
    assert all(len(values(sampler.sample(i, 0))[0]) == 1 for i in range(20))


def test_an_added_object_gets_an_id_of_its_own_and_covers_what_is_behind():
    image, mask = frame(0.1, 0.9, (5, 5, 11, 13), ignored=(0, 0))
    mask[mask == 1] = 2
    mask[18:, 25:] = 1
    for seed in range(30):
        [(added, labels)] = add_objects([(image, mask)], [OTHER], torch.Generator().manual_seed(seed))
        assert torch.equal(labels == 3, (added[0] - 0.7).abs() < 1e-6)
        assert torch.equal(labels[labels != 3], mask[labels != 3])
        assert (labels == 3).any()
