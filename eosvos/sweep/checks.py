"""What happens before Hydra makes a folder, and when a sweep is done; takes no torch."""

import copy
import itertools
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from eosvos.compat.hydra import compose_job, product_jobs, sweep_overrides, without_hydra
from eosvos.config.checks import check
from eosvos.config.messages import user_errors
from eosvos.config.quoting import override
from eosvos.config.training import Config
from eosvos.data.splits import Splits
from eosvos.errors import UserError
from eosvos.evaluation.folders import check_place, checked_videos
from eosvos.evaluation.official import check_official
from eosvos.evaluation.submission import check_submission
from eosvos.sweep.jobs import going_on, job_name
from eosvos.sweep.space import candidates, search_settings
from eosvos.sweep.table import Job, compare_jobs


class Checks(Callback):
    """Checks a run, or every job of a sweep, before Hydra makes a folder and before the first job starts.

    When a sweep is done, its jobs are compared. training: whether the work is train.py's.
    """

    def __init__(self, training: bool) -> None:
        self.training = training
        self._jobs: list[Job] = []

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the run; its folder, of which Hydra makes use next, loses a leading ~."""
        with _errors():
            if search_settings(config.hydra):
                raise UserError("sweep=optuna chooses the settings of several runs: it needs -m")
            config.hydra.run.dir = os.path.expanduser(config.hydra.run.dir)
            check_job(config, config.hydra.run.dir, self.training)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check all jobs of the sweep; its folder loses a leading ~, in what they are composed from, too."""
        with _errors():
            folder = config.hydra.sweep.dir = os.path.expanduser(config.hydra.sweep.dir)
            config.hydra.overrides.hydra.append(override("hydra.sweep.dir", folder))
            check_place(Path(folder), "hydra.sweep.dir")
            _check_once(config.hydra.launcher)
            if search_settings(config.hydra):
                # Its jobs are not known yet: none of these will be made.
                unmade = os.path.join(folder, "candidates")
                self._check_jobs(config, candidates(sweep_overrides(config)), unmade)
            else:
                self._jobs = self._check_jobs(config, product_jobs(config), folder)

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print and write the table of the jobs; the program ends with status 1 if some of them failed.

        Another sweeper than Hydra's own tells of its jobs itself.
        """
        with _errors():
            if self._jobs:
                compare_jobs(self._jobs, Path(config.hydra.sweep.dir))

    def _check_jobs(self, config: DictConfig, jobs: Iterable[Sequence[str]], folder: str) -> list[Job]:
        """Check jobs by what they set, and that they do not meet; folder: of the sweep."""
        checked, places = [], {}
        for number, words in enumerate(jobs):
            job = compose_job(config, words, number)
            name = job_name(job.hydra)
            try:
                _check_same_launcher(config, job)
                found = check_job(job, os.path.join(folder, job.hydra.sweep.subdir), self.training)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
            wanted = (found.output, found.results)
            places[name] = {Path(place).resolve() for place in wanted if place is not None}
            checked.append(Job(tuple(job.hydra.overrides.task), Path(found.output)))
        _check_distinct(places)
        return checked


@contextmanager
def _errors() -> Iterator[None]:
    """As `user_errors`; other errors end the program, too, of which Hydra would make warnings."""
    try:
        with user_errors():
            yield
    except Exception as error:
        traceback.print_exception(error)
        sys.exit(1)


def check_job(config: DictConfig, folder: str, training: bool) -> Config:
    """Prepare a run or job as it will be in its folder, without making it; raises UserError."""
    config = copy.deepcopy(config)
    with read_write(config), open_dict(config):
        config.hydra.runtime.output_dir = os.path.abspath(folder)
    HydraConfig.instance().set_config(config)
    try:
        return prepare(without_hydra(config), training)[0]
    finally:
        HydraConfig.instance().cfg = None


def prepare(cfg: DictConfig, training: bool = True) -> tuple[Config, Splits]:
    """Check a whole configuration and list its videos; raises UserError. Makes nothing, and takes no torch.

    training: whether the work is train.py's; evaluate.py needs the test videos alone.
    """
    config = check(cfg, training)
    if training:
        config = going_on(config)
    videos = checked_videos(config, training)
    if config.resume and not training:
        raise UserError("resume=true goes on with training, and evaluate.py does not train: leave it out")
    if config.submission:
        for of_set in videos.test.values():
            check_submission(of_set)
    if config.evaluator == "davis2017":
        for name in videos.test:
            check_official(config.dataset.sources[name].test or {})
    return config, videos


def _check_once(launcher: DictConfig) -> None:
    """Raise UserError if a launcher would start a job more than once."""
    for key in ("tasks_per_node", "nodes"):
        if (count := launcher.get(key) or 1) > 1:
            raise UserError(
                f"hydra.launcher.{key}={count} would do each job {count} times: leave it out, and set "
                "trainer.devices to share a job among several processes"
            )


def _check_same_launcher(config: DictConfig, job: DictConfig) -> None:
    """Raise UserError if a job wants other settings of the launcher than the sweep has, which are for all."""
    asked: list[Any] = [OmegaConf.to_container(one.hydra.launcher, resolve=True) for one in (config, job)]
    of_sweep, of_job = asked
    for key, value in of_sweep.items():
        if of_job[key] != value:
            raise UserError(
                f"hydra.launcher.{key} would be {value} for all jobs, not the {of_job[key]} that this one "
                "needs: make a sweep for each value"
            )


def _check_distinct(places: Mapping[str, set[Path]]) -> None:
    """Raise UserError if two jobs would write into one place; places: of each job, by its name."""
    for (first, taken), (second, wanted) in itertools.combinations(places.items(), 2):
        for place in wanted & taken:
            raise UserError(
                f"{second} and {first} would both write into {place}: "
                "give each job a folder of its own, as in 'results=DIR/${hydra:job.num}'"
            )
