import json
import multiprocessing
import pickle
import time
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from eosvos.config.data import Folder, Synthetic, Tasks, YouTubeVOS
from eosvos.data.datamodule import SequenceShard, VOSDataModule
from eosvos.data.folder import folder_sequences
from eosvos.data.synthetic import synthetic_videos
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import TaskSampler
from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError


@pytest.fixture
def set_rank(monkeypatch):
    """Make this process one of several: set_rank(rank, world_size)."""
    return lambda *place: monkeypatch.setattr("eosvos.data.datamodule.rank_and_world_size", lambda: place)


def videos(split, num_videos=None):
    return synthetic_videos(Synthetic(split=split, num_videos=num_videos, size=[32, 40], num_frames=2))


def module(iteration=0, **arguments):
    settings = {
        "train": [TrainingSet(videos("train"))],
        "val": {"": videos("val", 3)},
        "test": {"": videos("test", 2)},
        "iterations": 4,
        "batch_size": 4,
        "tasks": Tasks(),
    }
    data = VOSDataModule(**{**settings, **arguments})
    if iteration:
        data.trainer = SimpleNamespace(lightning_module=SimpleNamespace(iteration=iteration))
    return data


def draws(data):
    return {(t.iteration, t.slot): t for batch in data.train_dataloader() for t in batch}


def equal(a, b):
    return a.name == b.name and all(
        torch.equal(getattr(a, key), getattr(b, key))
        for key in ("support_images", "query_images", "query_masks")
    )


def test_batches_are_the_tasks_of_one_iteration():
    batches = list(module().train_dataloader())
    assert [[(t.iteration, t.slot) for t in batch] for batch in batches] == [
        [(i, slot) for slot in range(4)] for i in range(4)
    ]


def test_processes_share_out_the_slots_and_draw_what_one_would_draw(set_rank):
    alone = draws(module())
    shards = []
    for rank in (0, 1):
        set_rank(rank, 2)
        shards.append(draws(module()))
    assert shards[0].keys().isdisjoint(shards[1])
    assert {slot for _, slot in shards[1]} == {1, 3}
    together = shards[0] | shards[1]
    assert together.keys() == alone.keys()
    assert all(equal(alone[key], together[key]) for key in alone)


def test_workers_draw_the_same_in_the_same_order():
    alone, read_ahead = draws(module()), draws(module(num_workers=2, prefetch_factor=2))
    assert list(alone) == list(read_ahead)
    assert all(equal(alone[key], read_ahead[key]) for key in alone)


def test_workers_read_ahead_while_the_network_is_busy():
    drawn = multiprocessing.Value("i", 0)

    class Counting:
        def __init__(self):
            self.skipped = {}

        def sample(self, iteration, slot):
            with drawn.get_lock():
                drawn.value += 1
            return iteration

    data = module(iterations=20, batch_size=1, num_workers=2, prefetch_factor=4)
    data.sampler = Counting()
    batches = iter(data.train_dataloader())
    assert next(batches) == [0]
    for _ in range(3000):
        if drawn.value == 9:
            break
        time.sleep(0.01)
    assert drawn.value == 9
    assert list(batches) == [[i] for i in range(1, 20)]


def test_resuming_draws_what_would_have_come_but_counts_all_iterations():
    loader = module(iteration=3).train_dataloader()
    assert len(loader) == 4
    resumed = {(t.iteration, t.slot): t for batch in loader for t in batch}
    alone = draws(module())
    assert list(resumed) == [(3, slot) for slot in range(4)]
    assert all(equal(alone[key], resumed[key]) for key in resumed)


def test_a_batch_that_processes_cannot_share_is_refused(set_rank):
    set_rank(0, 3)
    with pytest.raises(UserError, match=r"batch_size=4.*3 processes.*multiple of their number"):
        module().train_dataloader()


@pytest.mark.parametrize(("count", "world"), [(5, 2), (4, 2), (1, 3), (0, 2), (3, 1)])
def test_shards_of_sequences_are_of_one_length_and_do_not_overlap(count, world):
    sequences = videos("val", 5)[:count]
    shards = [list(SequenceShard(sequences, rank, world)) for rank in range(world)]
    assert len({len(shard) for shard in shards}) == 1
    names = [s.name for shard in shards for s in shard if s is not None]
    assert sorted(names) == [s.name for s in sequences]
    assert len(SequenceShard(sequences, 0, world)) == len(shards[0])


def test_sequences_become_a_task_source_and_nothing_to_train_on_is_refused():
    data = module(train=[TrainingSet(videos("val", 2))])
    assert {t.sequence for t in draws(data).values()} == {"synthetic-0000000", "synthetic-0000001"}
    with pytest.raises(UserError, match="no annotated object"):
        module(train=[TrainingSet([])]).train_dataloader()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_training_skips_is_said_once(disk, labels, caplog, workers):
    for t in ("00000", "00005"):
        disk.frame(f"train/JPEGImages/zoo/{t}.jpg")
        disk.mask(f"train/Annotations/zoo/{t}.png", labels(1))
    objects = {str(i): {"frames": ["00000"]} for i in (1, 2, 7)}
    disk.text("train/meta.json", json.dumps({"videos": {"zoo": {"objects": objects}}}))
    train = youtube_vos_sequences(YouTubeVOS(root=str(disk.root)))
    assert len(list(module(train=[TrainingSet(train)], num_workers=workers).train_dataloader())) == 4
    (record,) = caplog.records
    assert "training left out 2 objects that no mask shows: 2 of zoo, 7 of zoo:" in record.getMessage()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_broken_in_the_middle_of_training_is_named_in_one_sentence(disk, labels, workers):
    for t in range(3):
        disk.frame(f"frames/{t}.jpg")
        disk.mask(f"masks/{t}.png", labels(1))
    train = folder_sequences(Folder(images=str(disk.root / "frames"), masks=str(disk.root / "masks")))
    (disk.root / "frames/1.jpg").write_bytes(b"broken")
    batches = module(train=[TrainingSet(train)], iterations=50, num_workers=workers).train_dataloader()
    error = next(batch for batch in batches if isinstance(batch, UserError))
    assert "frames/1.jpg cannot be read" in str(error)
    assert "Traceback" not in str(error)


def test_the_sampler_is_small_when_sent_to_a_worker():
    sampler = module().sampler
    sampler.sample(0, 0)
    assert isinstance(sampler, TaskSampler)
    assert len(pickle.dumps(sampler)) < 5000


class Recorder(LightningModule):
    """Notes what it is given; counts iterations as the meta-learner does."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.iteration, self.seen, self.validated = 0, [], []

    def training_step(self, batch, _):
        assert all(t.support_images.dtype == torch.float32 for t in batch)
        self.seen.append([(t.iteration, t.slot) for t in batch])
        self.iteration += 1

    def validation_step(self, batch, _):
        self.validated.append(None if batch is None else batch.name)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_save_checkpoint(self, checkpoint):
        checkpoint["iteration"] = self.iteration

    def on_load_checkpoint(self, checkpoint):
        self.iteration = checkpoint["iteration"]


def fit(tmp_path, recorder, data=None, checkpoint=None):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        val_check_interval=2,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(recorder, datamodule=data or module(batch_size=1), ckpt_path=checkpoint)
    return recorder


def test_lightning_trains_and_validates_with_it(tmp_path):
    recorder = fit(tmp_path, Recorder())
    assert recorder.seen == [[(i, 0)] for i in range(4)]
    assert recorder.validated == [f"synthetic-{i:07d}" for i in range(3)] * 2


def test_lightning_resumes_in_the_middle(tmp_path):
    class Saving(Recorder):
        def on_train_batch_end(self, *_):
            if self.iteration == 2:
                self.trainer.save_checkpoint(tmp_path / "half.ckpt")

    fit(tmp_path, Saving())
    resumed = fit(tmp_path, Recorder(), checkpoint=tmp_path / "half.ckpt")
    assert resumed.seen == [[(2, 0)], [(3, 0)]]
    assert resumed.iteration == 4


def test_padding_reaches_the_validation_step_as_none(tmp_path, set_rank):
    set_rank(1, 2)
    data = VOSDataModule(
        [TrainingSet(videos("train"))],
        val={"": videos("val", 3)},
        test={},
        tasks=Tasks(augment=None),
        iterations=2,
        batch_size=2,
    )
    recorder = fit(tmp_path, Recorder(), data)
    assert recorder.seen == [[(0, 1)], [(1, 1)]]
    assert recorder.validated == ["synthetic-0000001", None]
