"""What Hydra knows of the command line; where code has composed the configuration, there is none."""

import os

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from eosvos.processes import cores

LAUNCHERS = {"SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"}
"""What other launchers leave in the environment."""


def overridden() -> list[str]:
    """The keys and groups that are set on the command line."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [override.lstrip("+~").partition("=")[0] for override in overrides]


def removed() -> list[str]:
    """The keys that the command line takes away, ~KEY."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [override[1:].partition("=")[0] for override in overrides if override.startswith("~")]


def given(key: str) -> str | None:
    """The text that the command line sets a key to, as it is written there."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    texts = [
        override.partition("=")[2] for override in overrides if override.lstrip("+").startswith(f"{key}=")
    ]
    return texts[-1] if texts else None


def run_mode() -> RunMode | None:
    """Whether the command line asks for one run or for a sweep (-m); None without a command line."""
    return HydraConfig.get().mode if HydraConfig.initialized() else None


def devices_for(accelerator: str, meta_batch: int, parent_steps: int, parent_batch: int) -> int:
    """How many processes the CPU is good for: the most, up to its cores, that share the batches evenly.

    One for other hardware, and where more cannot be started by re-running the command line: in a sweep,
    without a command line, and where SLURM or torchrun start the processes.
    """
    if accelerator != "cpu" or run_mode() != RunMode.RUN or not LAUNCHERS.isdisjoint(os.environ):
        return 1
    batches = (meta_batch, parent_batch) if parent_steps else (meta_batch,)
    return max(n for n in range(1, cores() + 1) if not any(batch % n for batch in batches))
