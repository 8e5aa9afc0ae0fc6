import pickle
from collections import Counter

import pytest
import torch

from eosvos.config.data import Davis, Synthetic, Tasks
from eosvos.data.davis import davis_sequences
from eosvos.data.sequence import VideoSequence
from eosvos.data.synthetic import synthetic_videos
from eosvos.data.task_source import TrainingSet, list_objects
from eosvos.data.tasks import TaskSampler, object_mask
from eosvos.errors import UserError

SHORT = synthetic_videos(Synthetic(num_frames=3))
UNCHANGED = Tasks(augment=None)


class Numbered(VideoSequence):
    """Every pixel of frame t has value t; object 1 is in the frames of `shown`."""

    def __init__(self, name="numbered", length=10, shown=range(10), annotated=None, step=1):
        self.name, self.shown = name, set(shown)
        self.frame_names = tuple(f"{t * step:05d}" for t in range(length))
        self.annotated = tuple(range(length) if annotated is None else annotated)

    @property
    def size(self):
        return (4, 6)

    @property
    def annotated_frames(self):
        return self.annotated

    def image(self, t):
        return torch.full((3, 4, 6), t, dtype=torch.uint8)

    def mask(self, t):
        mask = torch.zeros(4, 6, dtype=torch.uint8)
        mask[1:3, 1:3] = int(t in self.shown)
        mask[0, 0], mask[0, 1] = 255, 2
        return mask if t in self.annotated else None


def times(images):
    return (images[:, 0, 0, 0] * 255).round().int().tolist()


def same(a, b):
    return all(
        torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in zip(a, b, strict=True)
    )


def parts(task):
    return list(vars(task).values())


def test_a_task_is_a_function_of_seed_iteration_and_slot():
    def sampler(seed=1):
        return TaskSampler([TrainingSet(SHORT)], Tasks(), 4, seed)

    first = sampler()
    wanted = parts(first.sample(5, 2))
    first.sample(9, 0)
    torch.rand(3)
    assert same(wanted, parts(first.sample(5, 2)))
    assert same(wanted, parts(pickle.loads(pickle.dumps(sampler())).sample(5, 2)))
    for other in (first.sample(5, 3), first.sample(6, 2), sampler(2).sample(5, 2)):
        assert not torch.equal(other.support_images, wanted[0])


def test_shapes_types_and_values():
    task = TaskSampler([TrainingSet(SHORT)], Tasks(query_frames=2), 4).sample(3, 1)
    assert task.support_images.shape == (1, 3, 96, 128)
    assert task.support_masks.shape == (1, 96, 128)
    assert task.query_images.shape == (2, 3, 96, 128)
    assert task.query_masks.shape == (2, 96, 128)
    assert task.support_images.dtype == task.query_images.dtype == torch.float32
    assert task.support_masks.dtype == task.query_masks.dtype == torch.uint8
    assert 0 <= float(task.query_images.min()) <= float(task.query_images.max()) <= 1
    assert all((mask == 1).any() for mask in [*task.support_masks, *task.query_masks])
    assert (task.iteration, task.slot) == (3, 1)
    assert task.name == f"{task.sequence}:{task.object_id}"
    assert same(parts(task.to("cpu")), parts(task))


def test_the_mask_is_that_of_the_object_with_ignored_pixels_kept():
    labels = torch.tensor([[0, 1, 2, 255]], dtype=torch.uint8)
    assert object_mask(labels, 2).tolist() == [[0, 0, 1, 255]]
    task = TaskSampler([TrainingSet([(Numbered(), 1)])], UNCHANGED, 1).sample(0, 0)
    assert task.support_masks.unique().tolist() == [0, 1, 255]
    assert int((task.support_masks == 1).sum()) == 4


def test_an_epoch_is_a_permutation_and_the_next_one_another():
    objects = [(Numbered(f"s{i}"), 1) for i in range(8)]
    sampler = TaskSampler([TrainingSet(objects)], UNCHANGED, 3, seed=4)
    drawn = [sampler.sample(*divmod(draw, 3)).sequence for draw in range(24)]
    epochs = [drawn[i : i + 8] for i in (0, 8, 16)]
    assert all(sorted(epoch) == [f"s{i}" for i in range(8)] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_support_and_query_are_uniform_among_the_frames_that_show_the_object_and_independent():
    sampler = TaskSampler(
        [TrainingSet([(Numbered(shown=[2, 5, 7], annotated=range(1, 9)), 1)])], UNCHANGED, 1
    )
    tasks = [sampler.sample(i, 0) for i in range(900)]
    pairs = Counter((times(t.support_images)[0], times(t.query_images)[0]) for t in tasks)
    assert set(pairs) == {(a, b) for a in (2, 5, 7) for b in (2, 5, 7)}
    assert all(60 < count < 140 for count in pairs.values())


def test_the_window_bounds_the_distance_of_queries_from_the_support():
    assert distances(Numbered(length=30, shown=range(30)), window=2) == {-2, -1, 0, 1, 2}


def test_the_window_counts_frames_by_their_numbers():
    every_fifth = Numbered(length=30, shown=range(30), step=5)
    assert distances(every_fifth, window=5) == {-1, 0, 1}
    assert distances(every_fifth, window=4) == {0}


def distances(sequence, window):
    sampler = TaskSampler(
        [TrainingSet([(sequence, 1)])], Tasks(query_frames=3, frame_window=window, augment=None), 1
    )
    tasks = [sampler.sample(i, 0) for i in range(60)]
    return {t - times(task.support_images)[0] for task in tasks for t in times(task.query_images)}


def test_an_object_that_no_mask_shows_is_replaced_by_another_and_noted():
    def sampler():
        ghosts = [(Numbered(f"ghost{i}", shown=[]), 1) for i in range(2)]
        return TaskSampler(
            [TrainingSet([*ghosts, *((Numbered(f"s{i}"), 1) for i in range(3))])], UNCHANGED, 1, seed=4
        )

    long_running = sampler()
    tasks = [long_running.sample(i, 0) for i in range(15)]
    assert {task.sequence for task in tasks} == {"s0", "s1", "s2"}
    assert long_running.skipped == {(0, i): f"1 of ghost{i}" for i in range(2)}
    assert all(same(parts(task), parts(sampler().sample(i, 0))) for i, task in enumerate(tasks))


class Listed(Numbered):
    """A list names objects 1 and 2; its masks show the second."""

    training_object_ids = (1, 2)


def test_an_object_that_no_mask_shows_may_still_be_of_a_group():
    def sampler():
        objects = [(Listed("listed", shown=[]), 1), (Numbered("other"), 1)]
        return TaskSampler([TrainingSet(objects)], UNCHANGED.model_copy(update={"object_groups": 0.5}), 1)

    long_running = sampler()
    tasks = [long_running.sample(i, 0) for i in range(30)]
    assert long_running.skipped == {(0, 0): "1 of listed"}
    assert {task.sequence for task in tasks[15:]} == {"listed", "other"}
    assert all(same(parts(task), parts(sampler().sample(i, 0))) for i, task in enumerate(tasks))


def test_a_task_source_without_a_visible_object_is_refused():
    sampler = TaskSampler(
        [TrainingSet([(Numbered(f"ghost{i}", shown=[]), 1) for i in range(3)])], UNCHANGED, 1
    )
    with pytest.raises(UserError, match=r"no mask of the training data.*short_side"):
        sampler.sample(0, 0)


def test_training_never_sees_one_synthetic_video_twice_in_an_epoch():
    sampler = TaskSampler(
        [TrainingSet(synthetic_videos(Synthetic(size=[32, 32], num_frames=2)))], UNCHANGED, 4
    )
    assert len({sampler.sample(i, slot).sequence for i in range(15) for slot in range(4)}) == 60


def test_sequences_and_real_videos_as_task_sources(shared):
    videos = synthetic_videos(Synthetic(split="val", num_videos=3))
    assert len(list_objects(videos)) == sum(video.num_objects for video in videos)
    davis = Davis(root=str(shared / "davis2016"), year="2016", split="train", short_side=120)
    train = TrainingSet(davis_sequences(davis))
    task = TaskSampler([train], Tasks(frame_window=10), 2).sample(0, 1)
    assert task.query_images.shape == (1, 3, 120, round(854 * 120 / 480))


def test_frames_with_all_objects_keep_their_ids():
    unchanged = UNCHANGED.model_copy(update={"query_frames": 0})
    sampler = TaskSampler([TrainingSet([(Numbered(), 1)])], unchanged, 1, all_objects=True)
    task = sampler.sample(0, 0)
    assert task.support_masks.unique().tolist() == [0, 1, 2, 255]
    assert task.query_images.shape == (0, 3, 4, 6)
    one = TaskSampler([TrainingSet([(Numbered(), 1)])], UNCHANGED, 1).sample(0, 0)
    assert one.support_masks.unique().tolist() == [0, 1, 255]
