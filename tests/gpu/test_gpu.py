"""What differs on a GPU; skipped where there is none."""

import pytest
import torch
from helpers import SMALL, prepared
from torch import nn

from eosvos.config.meta import InnerLR
from eosvos.data.tasks import Task
from eosvos.meta.checkpoint import load_checkpoint
from eosvos.processes import all_reduce_sum

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and there is none"),
]


def trained(tmp_path, *overrides):
    from eosvos.training.train import train

    return train(*prepared(*SMALL, "trainer=gpu", "trainer.num_workers=1", *overrides, output=tmp_path))


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_a_gpu_learns_and_its_checkpoint_moves(tmp_path, precision):
    result = trained(tmp_path, "iterations=2", f"trainer.precision={precision}")
    path = tmp_path / "checkpoints" / "last.ckpt"
    on_cpu, on_gpu = load_checkpoint(path), load_checkpoint(path, "cuda")
    for here, there in zip(on_cpu.learner.parameters(), on_gpu.learner.parameters(), strict=True):
        assert there.is_cuda
        assert here.dtype == torch.float32
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=0)
    assert all(torch.isfinite(weight).all() for weight in result.learner.parameters())


def test_sums_over_processes_with_nccl(tmp_path, monkeypatch):
    # One process alone would not ask NCCL.
    monkeypatch.setattr("eosvos.processes.rank_and_world_size", lambda: (0, 2))
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        values = [torch.ones(3, device="cuda"), torch.full((2, 2), 2.0, device="cuda")]
        for sum_, value in zip(all_reduce_sum(values), values, strict=True):
            torch.testing.assert_close(sum_, value)
    finally:
        torch.distributed.destroy_process_group()


def test_tasks_in_pinned_memory_reach_the_gpu():
    frames, masks = torch.rand(1, 3, 8, 8), torch.ones(1, 8, 8, dtype=torch.uint8)
    task = Task(frames, masks, frames, masks, "video", 1, 0, 0).pin_memory()
    assert task.support_images.is_pinned()
    moved = task.to("cuda")
    assert moved.query_masks.is_cuda
    torch.testing.assert_close(moved.support_images.cpu(), frames)


def test_inner_learning_rates_are_on_the_device_of_their_weights():
    from eosvos.meta.inner_lr import lr_transform

    made = lr_transform(InnerLR())(nn.Parameter(torch.ones(4, 2, device="cuda")))
    assert made.lr().is_cuda
