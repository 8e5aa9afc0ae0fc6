"""What meta-learning costs beside the network: ratios against its bare forward and backward pass, in one run.

    uv run benchmarks/overhead.py [KEY=VALUE ...]       # the keys of train.py

A ratio of 1.00 means that nothing but forward and backward passes takes time. Rounds of all measurements are
interleaved and medians compared, since machines are noisy.
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import repeat

import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from eosvos.config.checks import check
from eosvos.config.data import Synthetic, Tasks
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.config.training import Config
from eosvos.data.synthetic import SyntheticTaskSource
from eosvos.data.task_source import TrainingSet
from eosvos.data.tasks import Task, TaskSampler
from eosvos.meta.learner import MetaLearner, total_loss
from eosvos.meta.model import Model, build_learner
from eosvos.meta.module import MetaModule
from eosvos.seeding import isolated_rng

ROUNDS, OBJECTS = 7, 3


def load_config(overrides: list[str]) -> Config:
    """The configuration of train.py with overrides."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return check(compose("train", ["output=.", *overrides]))


def bare_pass(learner: MetaLearner, images: Tensor, masks: Tensor) -> None:
    """One forward and backward pass over images [B, 3, H, W] with masks [B, H, W]."""
    loss = total_loss(learner.segmenter, images, masks)
    torch.autograd.grad(loss, learner.weights(), allow_unused=True)


def backbone_passes(learner: MetaLearner, images: Tensor) -> dict[str, tuple[int, Callable[[], object]]]:
    """By name, with their number: forward and backward passes of the backbone over images [B, 3, H, W] for
    objects that have weights of their own, one after another and all together.
    """
    backbone = learner.segmenter.backbone
    stacked = {name: torch.stack([weight.detach()] * OBJECTS) for name, weight in backbone.named_parameters()}
    each = [{name: weight[i] for name, weight in stacked.items()} for i in range(OBJECTS)]

    def loss(weights: dict[str, Tensor]) -> Tensor:
        maps = torch.func.functional_call(backbone, weights, (images,))
        return torch.stack([of_level.square().mean() for of_level in maps.values()]).sum()

    one = torch.func.grad(loss)
    together = torch.func.vmap(one, randomness="different")
    return {
        f"backbone for {OBJECTS} objects, one by one": (OBJECTS, lambda: list(map(one, each))),
        f"backbone for {OBJECTS} objects, together": (OBJECTS, lambda: together(stacked)),
    }


def sampled_tasks(config: Config) -> list[Task]:
    """The tasks of a meta iteration, on procedural videos."""
    source = SyntheticTaskSource(Synthetic(size=config.dataset.train["size"]))
    sampler = TaskSampler([TrainingSet(source)], Tasks(augment=None), config.meta.batch_size)
    return [sampler.sample(0, slot) for slot in range(config.meta.batch_size)]


def measurements(config: Config) -> dict[str, tuple[int, Callable[[], object]]]:
    """By name: how many bare passes are in it, and what to run."""
    learner = build_learner(Model.of(config), config.seed)
    tasks = sampled_tasks(config)
    module = MetaModule(learner, config.meta, iterations=1)
    weights = config.meta.query_weights
    passes = len(weights) + sum(weight > 0 for weight in weights)
    support = (tasks[0].support_images, tasks[0].support_masks)
    steps = config.meta.inner_steps
    return {
        "bare forward and backward": (1, lambda: bare_pass(learner, *support)),
        f"adapt, {steps} steps, at test time": (steps, lambda: learner.adapt(repeat(support, steps))),
        f"meta-gradients of {len(tasks)} tasks": (len(tasks) * passes, lambda: module.sum_over_tasks(tasks)),
        **backbone_passes(learner, support[0]),
    }


def main() -> None:
    """Measure and print the table."""
    config = load_config(sys.argv[1:])
    torch.set_num_threads(config.threads or 1)
    table = measurements(config)
    seconds: dict[str, list[float]] = {name: [] for name in table}
    for round_number in range(ROUNDS + 1):
        for name, (_, run) in table.items():
            with isolated_rng("benchmark", round_number):
                started = time.perf_counter()
                run()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    bare = statistics.median(seconds["bare forward and backward"])
    for name, (passes, _) in table.items():
        median = statistics.median(seconds[name])
        print(f"{name:40} {1000 * median:9.1f} ms = {passes:3} passes x {median / passes / bare:.2f}")


if __name__ == "__main__":
    main()
