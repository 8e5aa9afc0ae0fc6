"""What Hydra does not offer: the jobs of a sweep before they start, and one job in another process."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from eosvos.writing import write_whole


def sweep_overrides(config: DictConfig) -> list[Override]:
    """What a sweep sets, each key once: its parameters and, stronger, the command line."""
    loader = GlobalHydra.instance().config_loader()
    # Not resolved: what refers to a job, or to what is swept, is known in the job.
    given: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    params: Any = OmegaConf.to_container(OmegaConf.create(config.hydra.sweeper.params or {}), resolve=False)
    swept = [f"{key}={value}" for key, value in params.items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides([*swept, *given])
    return list({override.get_key_element(): override for override in parsed}.values())


def product_jobs(config: DictConfig) -> list[list[str]]:
    """What each job of a sweep sets, as Hydra's own sweeper makes them; none with another sweeper."""
    if config.hydra.sweeper._target_ != f"{BasicSweeper.__module__}.{BasicSweeper.__name__}":
        return []
    (jobs,) = BasicSweeper.split_arguments(sweep_overrides(config), None)
    return jobs


def compose_job(config: DictConfig, words: Sequence[str], number: int) -> DictConfig:
    """The configuration of a job of a sweep, as Hydra's launchers compose it."""
    job = GlobalHydra.instance().config_loader().load_sweep_config(config, list(words))
    with open_dict(job):
        job.hydra.job.id = job.hydra.job.num = number
    return job


def without_hydra(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration without Hydra's own part, as a job is given it."""
    copied = copy.deepcopy(config)
    with read_write(copied), open_dict(copied):
        del copied["hydra"]
    return copied


def store_job(path: Path, cfg: DictConfig) -> None:
    """Write the job that this process does: its configuration, all resolved, and what Hydra knows of it."""
    job = {**OmegaConf.to_container(cfg, resolve=True), "hydra": OmegaConf.to_container(HydraConfig.get())}  # type: ignore[dict-item]
    write_whole(path, OmegaConf.to_yaml(job).encode())


def load_job(path: Path, with_log: bool) -> DictConfig:
    """Take up a stored job in this process, as Hydra would have begun it; returns its configuration.

    with_log: whether this process writes into the job's log.
    """
    setup_globals()
    stored = OmegaConf.load(path)
    assert isinstance(stored, DictConfig)
    declared = OmegaConf.structured(HydraConf)
    with open_dict(declared):
        stored.hydra = OmegaConf.merge(declared, stored.hydra)
    HydraConfig.instance().set_config(stored)
    if with_log:
        configure_log(stored.hydra.job_logging, stored.hydra.verbose)
    return without_hydra(stored)
