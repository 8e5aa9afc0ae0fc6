"""What learning and segmenting ask of the device beside the network's own passes."""

from collections import Counter
from itertools import repeat
from typing import Any

import torch
from operations import SMALL, Operations, table
from overhead import backbone_passes, load_config, sampled_tasks
from torch.utils._python_dispatch import TorchDispatchMode

from eosvos.meta.model import Model, build_learner

SMALLEST = (*SMALL, "backbone.width=8", "backbone.fpn_channels=16", "segmenter.select=score")


def test_inner_steps_and_meta_gradient_cost_the_passes_of_the_network_and_next_to_nothing_else():
    bare, step, meta_gradient, frame = table(load_config([*SMALLEST])).values()
    assert step.operations <= 1.05 * bare.operations
    assert meta_gradient.operations <= 1.08 * bare.operations
    assert step.waits <= bare.waits
    assert meta_gradient.waits <= bare.waits + 0.2
    assert bare.waits <= 8
    assert frame.waits <= 2


def test_objects_one_by_one_and_together_are_the_same_passes():
    config = load_config([*SMALLEST])
    learner = build_learner(Model.of(config), config.seed)
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    (number, one_by_one), (also, together) = backbone_passes(learner, images).values()
    each, stacked = one_by_one(), together()
    assert number == also == len(each)
    for i, gradients in enumerate(each):
        assert any(gradient.any() for gradient in gradients.values())
        torch.testing.assert_close({name: of_all[i] for name, of_all in stacked.items()}, gradients)


def test_operations_and_waits_are_counted():
    values = torch.arange(3.0)
    with Operations() as counted:
        values[values > 0].sum().item()
        (values + 1).tolist()
    assert counted.calls == {"gt": 1, "index": 1, "sum": 1, "_local_scalar_dense": 1, "add": 1}
    assert +counted.waits == {"index": 1, "_local_scalar_dense": 1, "read": 1}


def test_numbers_that_are_copied_to_a_device_are_waits():
    values = torch.arange(3.0)
    with Operations() as counted:
        torch.tensor([1.0], device=values.device)
        torch.tensor([1.0])
        values.new_tensor([1.0])
        torch.where(values > 1, values, 0)
    assert +counted.waits == {"upload": 3}


class Casts(TorchDispatchMode):
    """Counts the casts to bfloat16 by where in memory lies what is cast."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and made.dtype == torch.bfloat16:
            self.of[args[0].data_ptr()] += 1
        return made


def test_in_bf16_a_weight_is_cast_once_in_a_step_and_losses_are_in_single_precision():
    config = load_config([*SMALLEST])
    learner, [task] = build_learner(Model.of(config), 0), sampled_tasks(config)
    batch = task.support_images, task.support_masks
    with torch.autocast("cpu", torch.bfloat16), Casts() as casts:
        adapted = learner.adapt(repeat(batch, 3))
        losses = adapted.losses(*batch)
    times = {casts.of[weight.data_ptr()] for weight in adapted.parameters()}
    # Norms, in single precision, are not cast; what follows the last step is the fourth time.
    assert times == {0, 4}
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
