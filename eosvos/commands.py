"""The two commands. What they need is imported within, so that Ctrl-C is quiet from the start.

`python -m eosvos.commands COMMAND JOB.yaml` does one job of a sweep.
"""

import sys
from typing import TYPE_CHECKING

from eosvos.config.messages import job_errors, user_errors

if TYPE_CHECKING:
    from collections.abc import Callable

    from omegaconf import DictConfig

    from eosvos.config.training import Config
    from eosvos.data.splits import Splits


def train() -> None:
    """Do what the command line asks of train.py, whose configuration is conf/train.yaml."""
    _run("train")


def evaluate() -> None:
    """Do what the command line asks of evaluate.py, whose configuration is conf/evaluate.yaml."""
    _run("evaluate")


def compose_and_do(job: "Callable[[DictConfig], None]", name: str) -> None:
    """Let Hydra compose conf/NAME.yaml with the command line, and do the job with what comes of it."""
    with user_errors():
        import hydra

        from eosvos.config.help import CONF
        from eosvos.config.schema import register

        register()
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()


def _run(command: str) -> None:
    def job(cfg: "DictConfig") -> None:
        from hydra.types import RunMode

        from eosvos.config.command_line import run_mode
        from eosvos.config.schema import register

        sweep = run_mode() == RunMode.MULTIRUN
        with job_errors(sweep):
            # A launcher may have brought the job into another process.
            register()
            _job(command, cfg, sweep)

    compose_and_do(job, command)


def _job(command: str, cfg: "DictConfig", sweep: bool) -> None:
    """Do a job; in a sweep, unless it is finished, and on several devices in processes of its own."""
    from contextlib import nullcontext
    from pathlib import Path

    from eosvos.processes import is_rank_zero
    from eosvos.sweep.checks import prepare
    from eosvos.sweep.jobs import begin, run_apart
    from eosvos.writing import alone_in

    config, videos = prepare(cfg, training=command == "train")
    # For all processes of a run; Lightning starts the others when the main one has begun.
    with alone_in(Path(config.output)) if is_rank_zero() else nullcontext():
        if sweep and not begin(config, training=command == "train"):
            return
        if sweep and config.trainer.devices > 1:
            run_apart(command, cfg)
        else:
            _do(command, config, videos)


def _do(command: str, config: "Config", videos: "Splits") -> None:
    """Train or evaluate."""
    if command == "train":
        from eosvos.console import say
        from eosvos.errors import Pruned
        from eosvos.training.train import train

        try:
            train(config, videos)
        except Pruned as end:
            say(str(end))
    else:
        from eosvos.evaluation.evaluate import evaluate

        evaluate(config, videos)


def _stored_job(command: str, file: str) -> None:
    """Be one of the processes of a job that is stored, whose folder `run_apart` has for them."""
    with job_errors(sweep=False):
        from pathlib import Path

        from eosvos.compat.hydra import load_job
        from eosvos.config.schema import register
        from eosvos.processes import end_with_parent, is_rank_zero
        from eosvos.sweep.checks import prepare

        end_with_parent()
        register()
        cfg = load_job(Path(file), with_log=is_rank_zero())
        _do(command, *prepare(cfg, training=command == "train"))


if __name__ == "__main__":
    _stored_job(*sys.argv[1:3])
