"""What is asked of the device beside the network's own work: counts, and ratios against a bare pass.

    uv run benchmarks/operations.py [KEY=VALUE ...]     # the keys of train.py

Counts torch operations, and waits: reads of a result or of a size that only the device knows, and copies of
numbers to the device, before which a GPU has to finish all that was asked of it. No GPU is needed, and the
counts are the same on every machine. Without keys, of the tiny network and of Mask R-CNN with a ResNet-50, on
small frames.
"""

import sys
from collections import Counter
from collections.abc import Callable
from itertools import repeat
from typing import Any, NamedTuple

import torch
from overhead import bare_pass, load_config, sampled_tasks
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from eosvos.config.data import Synthetic
from eosvos.config.training import Config
from eosvos.data.synthetic import SyntheticVideo
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner, without_weights
from eosvos.meta.module import MetaModule
from eosvos.seeding import isolated_rng

# A network without training finds nothing above a score; numbers of boxes and channels change no count.
SMALL = ["segmenter.score_threshold=0", "dataset.size=[64,96]", "meta.batch_size=1"]
NETWORKS = {
    "tiny Mask R-CNN": SMALL,
    "Mask R-CNN, ResNet-50": [
        *("segmenter=mask_rcnn", "backbone=resnet50", "meta=paper", *SMALL),
        *("segmenter.min_size=null", "segmenter.roi_samples=16", "segmenter.prior_proposals=32"),
        *("segmenter.rpn_proposals_train=32", "segmenter.rpn_proposals_test=32"),
        *("segmenter.mask_channels=16", "segmenter.box_features=32", "backbone.fpn_channels=32"),
    ],
}
WAITING = {"nonzero", "_local_scalar_dense", "masked_select", "_unique2", "nms"}
"""Operations whose result, or its size, the host has to know before it can go on."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
READING = {Tensor.tolist, Tensor.cpu, Tensor.numpy}


class Row(NamedTuple):
    """Torch operations, and waits for the device, of a pass or of a frame."""

    operations: float
    waits: float


class Operations(TorchDispatchMode):
    """Counts what is called in its block: all operations, and those that wait for the device, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self._reads = _Reads(self.waits)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation."""
        name = func.name().partition("::")[2].partition(".")[0]
        self.calls[name] += 1
        # How many values are true decides the size.
        masked = name in INDEXING and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        self.waits[name] += name in WAITING or masked
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> "Operations":
        """Begin to count."""
        self._reads.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        """Count no more."""
        super().__exit__(*exception)
        self._reads.__exit__(*exception)


class _Reads(TorchFunctionMode):
    """Counts the reads of whole tensors, and copies of numbers to a device: no operations of the CPU."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.waits["read"] += func in READING
        self.waits["upload"] += (
            func is Tensor.new_tensor
            or (func in (torch.tensor, torch.as_tensor) and "device" in (kwargs or {}))
            or (func is torch.where and any(isinstance(value, int | float) for value in args))
        )
        return func(*args, **(kwargs or {}))


def counted(run: Callable[[], object]) -> Operations:
    """What a call asks of the device."""
    with isolated_rng("operations"), Operations() as operations:
        run()
    return operations


def segment(learner: MetaLearner, config: Config, frames: int) -> None:
    """Segment a video from its first frame."""
    size = config.dataset.train["size"]
    video = SyntheticVideo(0, Synthetic(size=size, num_frames=1 + frames, max_objects=1))
    for _ in Predictor(learner, config.finetune).segment(video):
        pass


def measurements(config: Config) -> dict[str, tuple[Operations, int]]:
    """By name: what was counted, and in how many passes (or frames)."""
    learner = build_learner(without_weights(Model.of(config)), config.seed)
    tasks = sampled_tasks(config)
    module = MetaModule(learner, config.meta, iterations=1)
    weights, steps = config.meta.query_weights, config.finetune.steps
    support = (tasks[0].support_images, tasks[0].support_masks)
    chunk = config.finetune.feature_batch_size
    first, second = (counted(lambda n=n: segment(learner, config, n * chunk)) for n in (1, 2))
    propagated = Operations()
    propagated.calls, propagated.waits = second.calls - first.calls, second.waits - first.waits
    return {
        "bare forward and backward": (counted(lambda: bare_pass(learner, *support)), 1),
        f"inner step at test time, of {steps}": (
            counted(lambda: learner.adapt(repeat(support, steps))),
            steps,
        ),
        f"pass of the meta-gradient, of {len(tasks)} tasks": (
            counted(lambda: module.sum_over_tasks(tasks)),
            len(tasks) * (len(weights) + sum(weight > 0 for weight in weights)),
        ),
        f"propagated frame, {chunk} at once": (propagated, chunk),
    }


def table(config: Config) -> dict[str, Row]:
    """The rows by name."""
    return {
        name: Row(counted.calls.total() / number, counted.waits.total() / number)
        for name, (counted, number) in measurements(config).items()
    }


def main() -> None:
    """Count, and print a table for each network."""
    networks = {"with these keys": sys.argv[1:]} if sys.argv[1:] else NETWORKS
    for network, keys in networks.items():
        rows = table(load_config(keys))
        bare = next(iter(rows.values())).operations
        print(f"{network:42} operations   x bare    waits")
        for name, (operations, waits) in rows.items():
            print(f"  {name:40} {operations:10.1f} {operations / bare:8.3f} {waits:8.2f}")


if __name__ == "__main__":
    main()
