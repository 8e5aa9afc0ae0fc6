"""The loggers of a training run, and what each kind takes beside figures."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import wandb
from hydra.errors import InstantiationException
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from tensorboard.compat.proto.summary_pb2 import Summary
from wandb.errors import Error as WandbError

from eosvos.config.build import build_a
from eosvos.config.training import Config
from eosvos.errors import Pruned, UserError
from eosvos.evaluation.records import MEASURES
from eosvos.evaluation.reports import compared_name
from eosvos.evaluation.tables import Row
from eosvos.processes import is_rank_zero


def start_loggers(config: Config) -> list[Any]:
    """Build the loggers that are configured; raises UserError if W&B lacks its key or a network.

    It would tell so only with the first line of the log.
    """
    if is_rank_zero():
        keep_log(Path(config.output))
    try:
        loggers = [build_a(Logger, node) for node in config.logger.values()]
    except InstantiationException as error:
        raise UserError(f"logger: {' '.join(str(error.__cause__).split())}") from None
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


@contextmanager
def closing(loggers: list[Any]) -> Iterator[None]:
    """End the runs of W&B with the block, however it ends: the next job of a sweep would go on with them."""
    status = 1
    try:
        yield
        status = 0
    except Pruned:
        status = 0
        raise
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger) and is_rank_zero():
                logger.experiment.finish(exit_code=status)


def keep_log(output: Path) -> None:
    """Rename the CSV log of an earlier part of the run, which the logger would delete."""
    log = output / "csv" / "metrics.csv"
    if log.is_file():
        names = (log.with_name(f"metrics-{part}.csv") for part in count(1))
        log.rename(next(name for name in names if not name.exists()))


class Board:
    """What a logger of Lightning takes beside figures: of any kind but those below, nothing.

    Only the main process has one. step: the meta iteration.
    """

    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def run(self, about: Mapping[str, Any]) -> None:
        """Take what a run is: its configuration and versions, plain values."""

    def text(self, name: str, text: str, step: int) -> None:
        """Take a line of text."""

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Take rows of equal keys, at least one."""

    def histogram(self, name: str, values: NDArray[np.float32], step: int) -> None:
        """Take values [N] of which the distribution is shown."""

    def picture(self, name: str, path: Path, step: int) -> None:
        """Take the picture in a file."""


class CsvBoard(Board):
    """A CSV log takes text as one more column; the run's folder has all the rest in files."""

    def text(self, name: str, text: str, step: int) -> None:
        """Take it."""
        self.logger.log_metrics({name: text}, step)


class TensorBoard(Board):
    """TensorBoard, which shows tables and text as Markdown."""

    def run(self, about: Mapping[str, Any]) -> None:
        """Take it as YAML."""
        lines = OmegaConf.to_yaml(OmegaConf.create(dict(about))).splitlines()
        self.text("run", "\n".join(f"    {line}" for line in lines), 0)

    def text(self, name: str, text: str, step: int) -> None:
        """Take it."""
        self.logger.experiment.add_text(name, text, step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Take it as Markdown."""
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        cells = ([f"{x:.3f}" if isinstance(x, float) else str(x) for x in line] for line in lines)
        self.text(name, "\n".join(f"| {' | '.join(line)} |" for line in cells), step)

    def histogram(self, name: str, values: NDArray[np.float32], step: int) -> None:
        """Take it."""
        self.logger.experiment.add_histogram(name, values, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Take the file as it is: add_image would write it anew as PNG, for a tenth of a second."""
        width, height = Image.open(path).size
        content = path.read_bytes()
        image = Summary.Image(encoded_image_string=content, width=width, height=height, colorspace=3)
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        self.logger.experiment.file_writer.add_summary(summary, step)


class Wandb(Board):
    """Weights & Biases."""

    def run(self, about: Mapping[str, Any]) -> None:
        """Take it as the configuration of the run."""
        self.logger.log_hyperparams(dict(about))

    def text(self, name: str, text: str, step: int) -> None:
        """Take it."""
        self.logger.log_metrics({name: text}, step)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Take it."""
        self.logger.log_table(name, list(rows[0]), [list(row.values()) for row in rows], step=step)

    def histogram(self, name: str, values: NDArray[np.float32], step: int) -> None:
        """Take it."""
        self.logger.log_metrics({name: wandb.Histogram(values)}, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        """Take it."""
        self.logger.log_image(name, [str(path)], step)


BOARDS = {CSVLogger: CsvBoard, TensorBoardLogger: TensorBoard, WandbLogger: Wandb}


def log_final_evaluation(loggers: Sequence[Any], rows: Sequence[Row], step: int) -> None:
    """Give loggers the table of the final evaluation, and J, F and J&F of the row that tells a run's worth.

    step: the last meta iteration.
    """
    worth = compared_name([row.name for row in rows])
    table: list[dict[str, Any]] = [{"row": row.title, **row.figures()} for row in rows]
    figures: dict[str, float] = {}
    for row, line in zip(rows, table, strict=True):
        prefix = f"test/{row.dataset}" if row.dataset else "test"
        if row.name == worth:
            figures |= {f"{prefix}/{name}": line[name] for name in MEASURES if line[name] is not None}
    for logger, board in zip(loggers, boards(loggers), strict=False):
        if table:
            board.table("test/rows", table, step)
        if figures:
            logger.log_metrics(figures, step)
        # Lightning has written the rest when training ended.
        logger.save()


def boards(loggers: Sequence[Any]) -> list[Board]:
    """What each of the loggers takes beside figures; none in a process beside the main one."""
    found = []
    for logger in loggers if is_rank_zero() else ():
        kind = next((board for of, board in BOARDS.items() if isinstance(logger, of)), Board)
        found.append(kind(logger))
    return found
