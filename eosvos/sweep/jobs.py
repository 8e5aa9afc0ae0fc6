"""A job of a sweep: done once, gone on with where it was stopped, and shared by processes of its own."""

import os
import signal
import sys
from pathlib import Path
from subprocess import PIPE, Popen

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from eosvos.compat.hydra import store_job
from eosvos.config.training import Config
from eosvos.console import say
from eosvos.errors import UserError
from eosvos.evaluation.folders import is_same_job
from eosvos.evaluation.reports import REPORT
from eosvos.processes import take_signals
from eosvos.writing import remove

CHECKPOINTS = ("last.ckpt", "parent-last.ckpt")
"""What a training run can go on from, the latest stage first."""


def job_name(job: HydraConf) -> str:
    """A job by its number and what it sets."""
    return f"job {job.job.num} ({' '.join(job.overrides.task)})"


def begin(config: Config, training: bool) -> bool:
    """Whether there is anything to do for the job that Hydra is at; says what an earlier start has done.

    An older report goes: who finds one afterwards knows that the job came to its end.
    """
    if training and is_finished(config):
        say(f"{job_name(HydraConfig.get())} is finished: {config.output}")
        return False
    remove([Path(config.output) / REPORT])
    if config.resume:
        say(f"{job_name(HydraConfig.get())} goes on from {config.checkpoint}")
    return True


def is_finished(config: Config) -> bool:
    """Whether this training job of a sweep has come to its end before."""
    folder = Path(config.output)
    return not config.overwrite and is_same_job(folder) and (folder / REPORT).is_file()


def going_on(config: Config) -> Config:
    """The configuration with which a training job of a sweep goes on from its own last checkpoint.

    As it is where the job has none yet, and with overwrite=true, which begins anew.
    """
    folder = Path(config.output)
    there = [path for name in CHECKPOINTS if (path := folder / "checkpoints" / name).is_file()]
    if config.overwrite or not there or not is_same_job(folder):
        return config
    return config.model_copy(update={"checkpoint": str(there[0]), "resume": True})


def run_apart(command: str, cfg: DictConfig) -> None:
    """Do the job that Hydra has begun in a process of its own, and wait for it; exits with its status.

    Lightning starts the other processes of a job by repeating the command of the first: here the one that
    does this job, from its resolved configuration, job.yaml. It is told of signals, and ends with this
    process. Raises UserError if it was killed.
    """
    file = Path(HydraConfig.get().runtime.output_dir) / "job.yaml"
    store_job(file, cfg)
    line = [sys.executable, "-m", "eosvos.commands", command, str(file), *sys.argv]
    # Within a job of SLURM, Lightning would wait for SLURM to start the others.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    with Popen(line, stdin=PIPE, env=environment, start_new_session=True) as process:
        before = take_signals(lambda number, _: process.send_signal(number))
        process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    if process.returncode < 0:
        raise UserError(f"the job's process was ended by {signal.Signals(-process.returncode).name}")
    if process.returncode:
        sys.exit(process.returncode)
