"""What the jobs of a sweep will be, as Hydra's own sweeper and launcher compose them."""

from collections.abc import Iterator

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, open_dict


def sweep_jobs(config: DictConfig) -> Iterator[DictConfig]:
    """The configuration of each job of a sweep.

    None for another sweeper, which chooses settings as it goes.
    """
    if config.hydra.sweeper._target_ != f"{BasicSweeper.__module__}.{BasicSweeper.__name__}":
        return
    loader = GlobalHydra.instance().config_loader()
    swept = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(
        [*swept, *config.hydra.overrides.task]
    )
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    for number, overrides in enumerate(jobs):
        job = loader.load_sweep_config(config, overrides)
        with open_dict(job):
            job.hydra.job.id = job.hydra.job.num = number
        yield job
