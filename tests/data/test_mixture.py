"""Tasks of several data sets: whose turn it is, and what is drawn from each."""

from collections import Counter
from fractions import Fraction

import pytest
import torch
from test_tasks import UNCHANGED, Numbered, parts, same, times

from eosvos.config.data import Augmentation, Tasks
from eosvos.data.mixture import Mixture
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import TaskSampler
from eosvos.errors import UserError


def data_set(name, count, weight=None, window=None, **numbered):
    videos = [(Numbered(f"{name}{i}", **numbered), 1) for i in range(count)]
    return TrainingSet(videos, window, weight, name)


def turns(sets, count, seed=0):
    mixture = Mixture(sets, Tasks(), seed)
    return [next(mixture.turn(draw)) for draw in range(count)]


def sequences(sets, draws, batch=4, tasks=UNCHANGED):
    sampler = TaskSampler(sets, tasks, batch, seed=3)
    return [sampler.sample(*divmod(draw, batch)).sequence for draw in range(draws)]


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (0.3, 0.7), (1, 2, 3), (0.1, 5, 0.1, 2)])
def test_every_data_set_has_its_share_of_any_first_tasks(weights):
    sets = [data_set(str(i), 5, weight) for i, weight in enumerate(weights)]
    shares = [Fraction(str(weight)) / sum(Fraction(str(one)) for one in weights) for weight in weights]
    counts = Counter()
    for n, (number, _) in enumerate(turns(sets, 1000), 1):
        counts[number] += 1
        for i, share in enumerate(shares):
            assert abs(counts[i] - n * share) < len(sets)


def test_weighted_data_sets_have_shuffled_epochs_of_their_own():
    drawn = turns([data_set("a", 6, 2), data_set("b", 4, 1)], 72)
    orders = []
    for number, length in ((0, 6), (1, 4)):
        own = [entry for of_set, entry in drawn if of_set == number]
        epochs = [own[i : i + length] for i in range(0, len(own) - length + 1, length)]
        assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
        assert len(set(map(tuple, epochs))) > 3
        orders.append(own)
    assert orders != [[entry for of_set, entry in turns([data_set("a", 6, 2), data_set("b", 4, 1)], 72, 1)]]


def test_two_data_sets_alike_have_different_epochs():
    drawn = turns([data_set("a", 8, 1), data_set("b", 8, 1)], 16)
    assert [entry for number, entry in drawn if number == 0] != [entry for number, entry in drawn if number]


def test_without_weights_an_epoch_is_of_all_objects_as_of_one_data_set():
    first, second = data_set("a", 3), data_set("b", 5)
    together = [video for video, _ in (*first.videos, *second.videos)]
    alone = [task.partition("/")[2] for task in sequences([first, second], 20)]
    assert alone == sequences([TrainingSet([(video, 1) for video in together])], 20)
    counts = Counter(name.partition("/")[0] for name in sequences([first, second], 16))
    assert counts == {"a": 6, "b": 10}


def test_a_single_data_set_ignores_its_weight_and_its_name_draws_nothing():
    plain, named = data_set("", 5), TrainingSet(data_set("", 5).videos, None, 0.3, "name")
    for iteration in range(4):
        one, other = (TaskSampler([each], Tasks(), 2).sample(iteration, 1) for each in (plain, named))
        assert other.sequence == f"name/{one.sequence}"
        assert torch.equal(one.support_images, other.support_images)
        assert torch.equal(one.query_images, other.query_images)


def test_tasks_are_a_function_of_iteration_and_slot():
    sets = [data_set("a", 3, 2), data_set("b", 5, 1)]
    once = [TaskSampler(sets, UNCHANGED, 4).sample(i, slot) for i in range(5) for slot in range(4)]
    sampler = TaskSampler(sets, UNCHANGED, 4)
    later = [sampler.sample(i, slot) for i in reversed(range(5)) for slot in reversed(range(4))]
    assert all(same(parts(one), parts(other)) for one, other in zip(once, reversed(later), strict=True))


def test_each_data_set_has_its_own_frame_window_or_that_of_all():
    sets = [data_set("near", 2, 1, window=1), data_set("far", 2, 1), data_set("still", 2, 1, window=0)]
    sampler = TaskSampler(sets, Tasks(query_frames=3, frame_window=4, augment=None), 3)
    far = {"near": set(), "far": set(), "still": set()}
    for draw in range(300):
        task = sampler.sample(*divmod(draw, 3))
        [support] = times(task.support_images)
        far[task.sequence.partition("/")[0]] |= {abs(t - support) for t in times(task.query_images)}
    assert far == {"near": {0, 1}, "far": {0, 1, 2, 3, 4}, "still": {0}}


def test_what_is_left_out_is_replaced_within_its_data_set_and_named_after_it():
    ghosts = TrainingSet([*data_set("g", 2, shown=[]).videos, *data_set("g", 3).videos], None, 1.0, "ghosts")
    sampler = TaskSampler([data_set("a", 2, 1.0), ghosts], UNCHANGED, 2)
    drawn = [sampler.sample(*divmod(draw, 2)).sequence.partition("/")[0] for draw in range(20)]
    assert Counter(drawn) == {"a": 10, "ghosts": 10}
    assert sampler.skipped == {(1, i): f"1 of ghosts/g{i}" for i in range(2)}


def test_a_data_set_that_shows_nothing_is_named():
    sampler = TaskSampler([data_set("a", 2, 1), data_set("dark", 2, 1, shown=[])], UNCHANGED, 2)
    with pytest.raises(UserError, match="no mask of dark shows its object"):
        [sampler.sample(0, slot) for slot in range(2)]
    with pytest.raises(UserError, match="empty: the training data have no annotated object"):
        Mixture([TrainingSet([], name="empty")], Tasks(), 0)


@pytest.mark.parametrize("weights", [(None, None), (9, 1)])
def test_copy_paste_draws_others_from_all_data_sets(monkeypatch, weights):
    """Also from a video of the same name; by weight where there are weights."""
    shades = {"a": (40, "same"), "b": (200, "same")}

    class Plain(Numbered):
        def __init__(self, shade, name):
            super().__init__(name, 3, range(3))
            self.shade = shade

        def image(self, t):
            return torch.full((3, 4, 6), self.shade, dtype=torch.uint8)

    sets = [
        TrainingSet([(Plain(*shades[name]), 1)], None, weight, name)
        for name, weight in zip("ab", weights, strict=True)
    ]
    seen = Counter()

    def note(frames, others, generator, into_task):
        seen[tuple(round(float(of[0][0].max()) * 255) for of in (frames, others))] += 1
        return frames

    monkeypatch.setattr("eosvos.data.tasks.copy_paste_frames", note)
    augment = Augmentation(copy_paste=1.0, flip=0, rotation=0)
    sampler = TaskSampler(sets, Tasks(augment=augment), 10)
    for slot in range(10):
        sampler.sample(0, slot)
    assert set(seen) == {(40, 200), (200, 40)}
    if weights[0]:
        draws = Mixture(sets, Tasks(), 0)
        generator = torch.Generator().manual_seed(0)
        others = [draws.any_entry(generator)[0] for _ in range(1000)]
        assert 850 < others.count(0) < 950
