"""The tasks of a meta batch, shared out among processes."""

from pathlib import Path

import torch
from helpers import KINDS, SMALL, prepared
from ranks import of_two_processes
from torch import Tensor

from eosvos.meta.model import Model, build_learner
from eosvos.meta.module import MetaModule
from eosvos.training.trainer import data_module


def sums(_: Path) -> list[Tensor]:
    """Meta-gradients and losses of two meta iterations, summed over the tasks of all processes."""
    config, videos = prepared(*SMALL, *KINDS, "iterations=2", "meta.batch_size=4", "trainer.num_workers=0")
    module = MetaModule(build_learner(Model.of(config), config.seed), config.meta, 2, config.seed)
    batches = data_module(config, videos, "meta").train_dataloader()
    results = [module.sum_over_tasks(tasks) for tasks in batches]
    return [value for gradients, *sums in results for value in (*gradients, *sums)]


def test_two_processes_add_up_to_one_whatever_the_kinds_of_tasks(tmp_path):
    one = sums(tmp_path)
    assert one[-1] == 4
    for shared in of_two_processes(sums, tmp_path):
        for mine, theirs in zip(one, shared, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
