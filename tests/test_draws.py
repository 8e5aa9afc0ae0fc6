"""What each random draw depends on: every part of its seed matters, and nothing else does."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from doubles import SIZE, Clip, NotingAdapter, NotingSegmenter
from torch import Tensor

from eosvos.config.data import Augmentation, Synthetic, Tasks
from eosvos.config.inference import Finetune, Online
from eosvos.config.meta import InnerLR, Meta
from eosvos.config.training import Parent
from eosvos.data.datamodule import VOSDataModule
from eosvos.data.sequence import VideoSequence
from eosvos.data.synthetic import SyntheticTaskSource, SyntheticVideo
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import Task, TaskSampler
from eosvos.evaluation.scoring import Validation
from eosvos.inference.finetune import annotated_batches
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.meta.parent import ParentModule
from eosvos.seeding import derive_seed, isolated_rng

Drawn = dict[str, list[Tensor]]
"""What was drawn, by what for."""


def same(some: Drawn, others: Drawn, kind: str) -> bool:
    pairs = zip(some[kind], others[kind], strict=True)
    return all(torch.equal(one, other) for one, other in pairs)


def check(draw: Callable[..., Drawn], parts: dict[str, Any], others: dict[str, Any]) -> None:
    """`draw` is a function of `parts`: each draw is another one as soon as one part is that of `others`."""
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = draw(**parts)
    assert torch.equal(torch.get_rng_state(), state)
    assert first
    torch.manual_seed(1)
    again = draw(**parts)
    assert all(same(again, first, kind) for kind in first)
    for name, value in others.items():
        other = draw(**{**parts, name: value})
        assert not [kind for kind in first if same(other, first, kind)], name


def drawn_by(events: list[tuple[str, Any]]) -> Drawn:
    """The draws among what a double has noted: all tensors but the frames of online learning."""
    drawn: Drawn = defaultdict(list)
    for kind, value in events:
        if isinstance(value, Tensor) and kind != "online images":
            drawn[kind].append(value)
    return drawn


UNCHANGED = dict.fromkeys(("flip", "rotation", "brightness", "contrast", "saturation", "hue"), 0.0)
NO_AUGMENTATION = Augmentation(**UNCHANGED, scale_min=1.0, scale_max=1.0)
ANOTHER = {"seed": 2, "iteration": 8, "slot": 0}


def test_a_seed_is_of_all_parts_in_their_order_and_types():
    parts = [(1, 2), (2, 1), (12,), ("1", 2), (1, "2"), ("a", "bc"), ("ab", "c"), ("abc",), (1, 2, 0), ()]
    assert len({derive_seed(*key) for key in parts}) == len(parts)
    assert derive_seed(3, "task", 1) == 6757046141739031325


@pytest.mark.parametrize("cpu_only", [False, True])
def test_a_block_of_its_own_seed_leaves_the_draws_around_it_alone(cpu_only):
    def draw(**parts: int) -> Drawn:
        with isolated_rng(*parts.values(), cpu_only=cpu_only):
            return {"rand": [torch.rand(4)]}

    check(draw, {"seed": 1, "slot": 3}, {"seed": 2, "slot": 4})


@pytest.mark.parametrize(
    ("videos", "tasks"),
    [
        ([Clip(length=40, masks=40)], Tasks(query_frames=3, augment=None)),
        ([Clip()], Tasks()),
        ([Clip("one"), Clip("other")], Tasks(augment=NO_AUGMENTATION.model_copy(update={"copy_paste": 1.0}))),
    ],
    ids=["frames", "augmentation", "copy_paste"],
)
def test_what_is_drawn_for_a_task_depends_on_seed_iteration_and_slot(videos, tasks):
    """One object at a time: nothing but the draws tells its tasks apart."""

    def draw(seed: int, iteration: int, slot: int) -> Drawn:
        objects = [(video, 1) for video in videos]
        source = AlwaysFirst(objects)
        sampler = TaskSampler([TrainingSet(source)], tasks, 4, seed=seed)
        source.asked = False
        task = sampler.sample(iteration, slot)
        return {"support": [task.support_images], "query": [task.query_images]}

    check(draw, {"seed": 1, "iteration": 7, "slot": 2}, ANOTHER)


class AlwaysFirst:
    """A task source that the other video is drawn from, but whose tasks are all of the first."""

    def __init__(self, objects: list[tuple[VideoSequence, int]]) -> None:
        self.objects = objects
        self.asked = False

    def __len__(self) -> int:
        return len(self.objects)

    def __getitem__(self, i: int) -> tuple[VideoSequence, int]:
        first, self.asked = not self.asked, True
        return self.objects[0 if first else -1]


def test_the_order_of_an_epoch_depends_on_seed_and_epoch():
    objects = [(Clip(str(i)), 1) for i in range(30)]

    def draw(seed: int, epoch: int, batch: int = 5) -> Drawn:
        sampler = TaskSampler([TrainingSet(objects)], Tasks(augment=None), batch, seed=seed)
        names = [sampler.sample(*divmod(30 * epoch + i, batch)).sequence for i in range(30)]
        assert len(set(names)) == 30
        return {"order": [torch.tensor([int(name) for name in names])]}

    check(draw, {"seed": 1, "epoch": 2}, {"seed": 2, "epoch": 3})
    assert same(draw(1, 2, batch=3), draw(1, 2, batch=5), "order")


def test_tasks_are_the_same_in_whatever_process_order_and_company(monkeypatch):
    objects = [(Clip(f"clip{i}", length=5, masks=5), 1) for i in range(7)]

    def tasks(world: int) -> dict[tuple[int, int], Task]:
        found = {}
        for rank in reversed(range(world)):
            monkeypatch.setattr("eosvos.data.datamodule.rank_and_world_size", lambda rank=rank: (rank, world))
            data = VOSDataModule([TrainingSet(objects)], {}, {}, Tasks(), 3, 4, seed=1)
            found |= {(t.iteration, t.slot): t for batch in data.train_dataloader() for t in batch}
        return found

    alone, shared = tasks(1), tasks(4)
    assert alone.keys() == shared.keys() == {(i, slot) for i in range(3) for slot in range(4)}
    assert all(torch.equal(task.query_images, shared[key].query_images) for key, task in alone.items())


def some_task(iteration: int, slot: int) -> Task:
    images, masks = torch.zeros(1, 3, *SIZE), torch.ones(1, *SIZE, dtype=torch.uint8)
    return Task(images, masks, images, masks, "clip", 1, iteration, slot)


def meta_draws(seed: int, iteration: int, slot: int, beside: tuple[int, ...] = ()) -> Drawn:
    learner = MetaLearner(NotingSegmenter(), InnerLR(level="single"))
    module = MetaModule(learner, Meta(inner_steps=2), 10, seed=seed)
    module.sum_over_tasks([*(some_task(iteration, other) for other in beside), some_task(iteration, slot)])
    return {"losses": drawn_by(learner.segmenter.events)["losses"][3 * len(beside) :]}


def test_adapting_to_a_task_draws_by_seed_iteration_and_slot():
    check(meta_draws, {"seed": 1, "iteration": 7, "slot": 2}, ANOTHER)
    assert same(meta_draws(1, 7, 2, beside=(3, 0)), meta_draws(1, 7, 2), "losses")
    support_and_query = torch.stack(meta_draws(1, 7, 2)["losses"])
    assert len(support_and_query.unique(dim=0)) == 3


def parent_draws(seed: int, iteration: int, slot: int, beside: tuple[int, ...] = ()) -> Drawn:
    learner = MetaLearner(NotingSegmenter(), InnerLR(level="single"))
    tasks = [*(some_task(iteration, other) for other in beside), some_task(iteration, slot)]
    ParentModule(learner, Parent(steps=10), seed=seed).training_step(tasks, 0)
    return {"losses": drawn_by(learner.segmenter.events)["losses"][len(beside) :]}


def test_parent_training_draws_by_seed_iteration_and_slot():
    check(parent_draws, {"seed": 1, "iteration": 7, "slot": 2}, ANOTHER)
    assert same(parent_draws(1, 7, 2, beside=(3, 0)), parent_draws(1, 7, 2), "losses")
    assert not same(parent_draws(1, 7, 2), {"losses": meta_draws(1, 7, 2)["losses"][:1]}, "losses")


ONLINE = Finetune(steps=2, batch_size=3, augment=True, online=Online(every=2, steps=1))


def track_draws(seed: int, name: str, object_id: int, beside: tuple[int, ...] = (), **options: Any) -> Drawn:
    adapter = NotingAdapter()
    finetune = ONLINE.model_copy(update=options)
    list(Predictor(adapter, finetune, seed=seed).segment(Clip(name, (object_id, *beside), length=6)))
    return drawn_by(adapter.events)


def test_following_an_object_draws_by_seed_video_and_object():
    check(
        track_draws,
        {"seed": 1, "name": "clip", "object_id": 5},
        {"seed": 2, "name": "other", "object_id": 6},
    )


def test_following_an_object_draws_by_frame():
    drawn = track_draws(1, "clip", 5)
    assert {kind: len(values) for kind, values in drawn.items()} == {
        "adapt": 1,
        "adapt images": 2,
        "segment": 5,
        "online": 2,
    }
    every = torch.stack(drawn["adapt"] + drawn["segment"] + drawn["online"])
    assert len(every.unique(dim=0)) == len(every)


def test_following_an_object_draws_the_same_in_any_company_and_chunks():
    alone = track_draws(1, "clip", 5)
    assert all(same(track_draws(1, "clip", 5, feature_batch_size=1), alone, kind) for kind in alone)
    beside, other = track_draws(1, "clip", 5, beside=(9,)), track_draws(1, "clip", 9)
    for kind in ("adapt", "online", "segment"):
        drawn = {tuple(values.tolist()) for values in beside[kind]}
        assert drawn == {tuple(values.tolist()) for values in alone[kind] + other[kind]}


def test_validation_draws_by_its_seed():
    def draw(seed: int) -> Drawn:
        adapter = NotingAdapter()
        Validation(ONLINE, seed)(adapter, Clip(length=6, masks=2))
        return drawn_by(adapter.events)

    check(draw, {"seed": 1}, {"seed": 2})


def test_every_copy_of_every_step_of_fine_tuning_is_augmented_on_its_own():
    clip = Clip()
    finetune = Finetune(steps=3, batch_size=4)
    batches = list(annotated_batches([(clip.image(0) / 255, clip.mask(0))], finetune, 1, "clip", 1))
    images, masks = (torch.cat(values) for values in zip(*batches, strict=True))
    assert len(images.flatten(1).unique(dim=0)) == 12
    assert len(masks.flatten(1).unique(dim=0)) > 6


def test_frames_of_a_task_share_colours_and_flip_and_are_turned_and_scaled_each_for_itself():
    class Still(Clip):
        def image(self, t: int) -> Tensor:
            return super().image(0)

    def frames(**changes: float) -> list[Tensor]:
        tasks = Tasks(query_frames=3, augment=NO_AUGMENTATION.model_copy(update=changes))
        task = TaskSampler([TrainingSet([(Still(), 1)])], tasks, 1).sample(4, 0)
        return [*task.support_images, *task.query_images]

    plain = frames()[0]
    for change in ({"brightness": 0.9}, {"contrast": 0.9}, {"saturation": 0.9}, {"hue": 0.5}, {"flip": 1.0}):
        changed = frames(**change)
        assert all(torch.equal(image, changed[0]) for image in changed), change
        assert not torch.allclose(changed[0], plain, atol=1e-3), change
    for change in ({"rotation": 90.0}, {"scale_min": 0.5, "scale_max": 2.0}):
        assert len(torch.stack(frames(**change)).flatten(1).unique(dim=0)) == 4, change


def test_a_procedural_video_is_drawn_by_seed_and_index():
    def draw(seed: int, index: int) -> Drawn:
        video = SyntheticVideo(index, Synthetic(size=[32, 48], num_frames=4, max_objects=1, seed=seed))
        return {str(t): [video.image(t), video.mask(t)] for t in range(4)}

    check(draw, {"seed": 1, "index": 5}, {"seed": 2, "index": 6})


def test_the_number_of_objects_and_the_chosen_one_are_drawn_by_seed_and_index():
    def settings(seed: int) -> Synthetic:
        return Synthetic(size=[32, 48], num_frames=2, seed=seed)

    def counts(seed: int) -> list[int]:
        return [SyntheticVideo(index, settings(seed)).num_objects for index in range(60)]

    def chosen(seed: int) -> list[tuple[int, int]]:
        source = SyntheticTaskSource(settings(seed))
        return [(video.num_objects, object_id) for video, object_id in (source[i] for i in range(60))]

    assert set(counts(0)) == {1, 2, 3}
    assert counts(0) != counts(1)
    assert {(n, i) for n in (1, 2, 3) for i in range(1, n + 1)} == set(chosen(0))
    both_three = [(a, b) for a, b in zip(chosen(0), chosen(1), strict=True) if a[0] == b[0] == 3]
    assert any(a != b for a, b in both_three)
