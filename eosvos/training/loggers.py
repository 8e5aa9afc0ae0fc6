"""The loggers of a training run."""

from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import WandbLogger
from wandb.errors import Error as WandbError

from eosvos.errors import UserError
from eosvos.processes import is_rank_zero
from eosvos.run.instantiate import build


def start_loggers(cfg: DictConfig) -> list[Any]:
    """Build the loggers that are configured; raises UserError if W&B lacks its key or a network.

    It would tell so only with the first line of the log.
    """
    loggers = [build(node) for node in cfg.logger.values()]
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
