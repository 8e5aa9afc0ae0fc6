"""The two commands. What they need is imported within, so that Ctrl-C is quiet from the start."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from eosvos.config.messages import job_errors, user_errors

if TYPE_CHECKING:
    from omegaconf import DictConfig


def train() -> None:
    """Do what the command line asks of train.py, whose configuration is conf/train.yaml."""

    def work(cfg: "DictConfig") -> Any:
        from eosvos.sweep import prepare

        prepared = prepare(cfg)
        from eosvos.training.train import train

        return train(*prepared)

    _run("train", work)


def evaluate() -> None:
    """Do what the command line asks of evaluate.py, whose configuration is conf/evaluate.yaml."""

    def work(cfg: "DictConfig") -> Any:
        from eosvos.sweep import prepare

        prepared = prepare(cfg, training=False)
        from eosvos.evaluation.evaluate import evaluate

        return evaluate(*prepared)

    _run("evaluate", work)


def _run(name: str, work: Callable[["DictConfig"], Any]) -> None:
    with user_errors():
        import hydra
        from hydra.types import RunMode

        from eosvos.config.command_line import run_mode
        from eosvos.config.help import CONF
        from eosvos.config.schema import register

        def job(cfg: "DictConfig") -> None:
            with job_errors(sweep=run_mode() == RunMode.MULTIRUN):
                work(cfg)

        register()
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(job)()
