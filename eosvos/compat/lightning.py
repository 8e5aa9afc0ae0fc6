"""Lightning's CSV log and checkpoints, where eosvos needs them other than they are."""

import csv
import io
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from eosvos.writing import write_whole


def count_iterations(checkpoint: dict[str, Any], done: int) -> None:
    """Write into a checkpoint's loops that `done` iterations of the only epoch are done.

    Lightning's own counters would repeat or skip a validation after an interruption, and take a finished
    stage for finished for ever, whatever number of iterations it is resumed with.
    """
    loop = checkpoint["loops"]["fit_loop"]
    for of_run_or_epoch in ("total", "current"):
        counts = loop["epoch_loop.batch_progress"][of_run_or_epoch]
        counts.update(dict.fromkeys(counts, done))
        loop["epoch_progress"][of_run_or_epoch].update(ready=1, started=1, processed=0, completed=0)
    loop["epoch_loop.batch_progress"]["is_last_batch"] = False
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = done


class CsvLog(CSVLogger):
    """Lightning's CSV log, whose file is whole at any time."""

    def __init__(self, save_dir: str, name: str, version: str) -> None:
        super().__init__(save_dir, name, version)

    @property
    def experiment(self) -> Any:
        """What the rows go to."""
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir)
        return self._experiment


class _Rows(ExperimentWriter):
    """All rows since the log began: a new column changes every line, and the file is written anew."""

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir)
        self._rows: list[dict[str, float]] = []

    def save(self) -> None:
        """Write the file, if there are new rows."""
        if not self.metrics:
            return
        self._rows += self.metrics
        self.metrics = []
        text = io.StringIO()
        writer = csv.DictWriter(text, sorted(set().union(*self._rows)))
        writer.writeheader()
        writer.writerows(self._rows)
        write_whole(Path(self.metrics_file_path), text.getvalue().encode())
