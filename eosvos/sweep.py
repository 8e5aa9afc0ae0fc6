"""The checks of a run, or of every job of a sweep, before Hydra makes a folder; they take no torch."""

import copy
import os
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict, read_write

from eosvos.compat.hydra import sweep_jobs
from eosvos.config.checks import check
from eosvos.config.messages import user_errors
from eosvos.config.quoting import override
from eosvos.config.training import Config
from eosvos.data.splits import Splits, list_videos
from eosvos.errors import UserError
from eosvos.evaluation.folders import check_folders, check_place, check_unread


class Checks(Callback):
    """Checks a run, or every job of a sweep, before Hydra makes a folder and before the first job starts.

    training: whether the work is train.py's.
    """

    def __init__(self, training: bool) -> None:
        self.training = training

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Check the run; its folder, of which Hydra makes use next, loses a leading ~."""
        with user_errors():
            config.hydra.run.dir = os.path.expanduser(config.hydra.run.dir)
            self._check(config, config.hydra.run.dir)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check all jobs of the sweep; its folder loses a leading ~, in what they are composed from, too."""
        with user_errors():
            folder = config.hydra.sweep.dir = os.path.expanduser(config.hydra.sweep.dir)
            config.hydra.overrides.hydra.append(override("hydra.sweep.dir", folder))
            check_place(Path(folder), "hydra.sweep.dir")
            takers: dict[Path, str] = {}
            for job in sweep_jobs(config):
                name = f"job {job.hydra.job.num} ({' '.join(job.hydra.overrides.task)})"
                try:
                    places = self._check(job, os.path.join(folder, job.hydra.sweep.subdir))
                except UserError as error:
                    raise UserError(f"{name}: {error}") from None
                for place in places:
                    if takers.setdefault(place, name) != name:
                        raise UserError(
                            f"{name} and {takers[place]} would both write into {place}: "
                            "give each job a folder of its own, as in 'results=DIR/${hydra:job.num}'"
                        )

    def _check(self, config: DictConfig, folder: str) -> set[Path]:
        """Prepare a job as it will be in its folder, without making it; returns what it writes into."""
        config = copy.deepcopy(config)
        with read_write(config), open_dict(config):
            config.hydra.runtime.output_dir = os.path.abspath(folder)
        HydraConfig.instance().set_config(config)
        try:
            cfg = copy.deepcopy(config)
            with read_write(cfg), open_dict(cfg):
                del cfg["hydra"]
            checked, _ = prepare(cfg, self.training)
            return {Path(place).resolve() for place in (checked.output, checked.results) if place is not None}
        finally:
            HydraConfig.instance().cfg = None


def prepare(cfg: DictConfig, training: bool = True) -> tuple[Config, Splits]:
    """Check a whole configuration and list its videos; raises UserError. Makes nothing, and takes no torch.

    training: whether the work is train.py's; evaluate.py needs the test videos alone.
    """
    config = check(cfg, training)
    check_folders(config, training)
    videos = list_videos(config, training)
    check_unread(config, videos.test, videos.folders)
    if config.resume and not training:
        raise UserError("resume=true goes on with training, and evaluate.py does not train: leave it out")
    return config, videos
