"""What Hydra knows of the command line; where code has composed the configuration, there is none."""

import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from eosvos.processes import cores

LAUNCHERS = {"SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"}
"""What other launchers leave in the environment."""


def job_overrides() -> list[str]:
    """What a run sets, in the words of its command line; in a sweep, what the job sets."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def overrides() -> dict[str, str | None]:
    """The keys and groups on the command line, each with its text; None for one that is taken away, ~KEY."""
    found: dict[str, str | None] = {}
    for override in job_overrides():
        key, _, text = override.partition("=")
        found[key.lstrip("+~")] = None if key.startswith("~") else text
    return found


def run_mode() -> RunMode | None:
    """Whether the command line asks for one run or for a sweep (-m); None without a command line."""
    return HydraConfig.get().mode if HydraConfig.initialized() else None


def devices_for(_root_: DictConfig) -> int:
    """How many processes the CPU is good for: the most, up to its cores, that share the batches evenly.

    One for other hardware, in a sweep, whose jobs may run side by side, and where more cannot be started by
    re-running the command line: without one, and where SLURM or torchrun start the processes.
    """
    accelerator = OmegaConf.select(_root_, "trainer.accelerator")
    if accelerator != "cpu" or run_mode() != RunMode.RUN or not LAUNCHERS.isdisjoint(os.environ):
        return 1
    steps = {"meta": "iterations", "parent": "parent.steps"}
    stages = [stage for stage, key in steps.items() if OmegaConf.select(_root_, key)]
    # What is no number, or not there, is refused when all is checked.
    sizes = [OmegaConf.select(_root_, f"{stage}.batch_size") for stage in stages]
    batches = [size for size in sizes if isinstance(size, int)]
    return max(n for n in range(1, cores() + 1) if not any(batch % n for batch in batches))
