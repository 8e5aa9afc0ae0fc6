"""The loggers of a training run."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from wandb.errors import Error as WandbError

from eosvos.config.build import build_a
from eosvos.config.training import Config
from eosvos.errors import UserError
from eosvos.processes import is_rank_zero


def start_loggers(config: Config) -> list[Any]:
    """Build the loggers that are configured; raises UserError if W&B lacks its key or a network.

    It would tell so only with the first line of the log.
    """
    if is_rank_zero():
        keep_log(Path(config.output))
    loggers = [build_a(Logger, node) for node in config.logger.values()]
    for logger in loggers:
        if isinstance(logger, WandbLogger) and is_rank_zero():
            try:
                _ = logger.experiment
            except WandbError as error:
                reason = " ".join(str(error).split())
                raise UserError(
                    f"W&B does not start ({reason}): run `wandb login` or set WANDB_API_KEY, or keep the run "
                    "local with logger.wandb.offline=true"
                ) from None
    return loggers


def close_loggers(loggers: list[Any]) -> None:
    """End the runs of W&B, which would go on with the same one in the next run of a sweep."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and is_rank_zero():
            logger.experiment.finish()


def keep_log(output: Path) -> None:
    """Rename the CSV log of an earlier part of the run, which the logger would delete."""
    log = output / "csv" / "metrics.csv"
    if log.is_file():
        parts = len(list(log.parent.glob("metrics*.csv")))
        log.rename(log.with_name(f"metrics-{parts}.csv"))
