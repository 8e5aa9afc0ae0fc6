"""What a run logs, and under which names (docs/dashboard.md)."""

import hashlib
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from torch import Tensor

from eosvos.evaluation.records import SequenceRecord, csv_text
from eosvos.evaluation.scoring import Validated
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import Iteration, MetaModule
from eosvos.processes import all_gather
from eosvos.training.loggers import boards
from eosvos.writing import write_whole

QUANTILES = {"min": 0.0, "5 %": 0.05, "25 %": 0.25, "median": 0.5, "75 %": 0.75, "95 %": 0.95, "max": 1.0}

LONGEST = 200
"""Bytes of a file's name before its ending; file systems take 255, and while it is written it is longer."""


class Segmented(NamedTuple):
    """A sequence that was validated on: the numbers of its data set and in it, and where its picture is."""

    val_set: int
    number: int
    record: SequenceRecord
    picture: Path | None


class Dashboard(Callback):
    """Hands on what meta-training and its validations find: figures to all loggers, the rest to those that
    take it, and to files.

    folder: takes of every validation, in a folder by its iteration, a table of the sequences and one of the
    inner learning rates, and the pictures. val_sets: names of the data sets to validate on; "" is that of the
    only one. All processes have one; the main one logs.
    """

    def __init__(self, folder: Path, val_sets: Sequence[str] = ("",)) -> None:
        self.folder = folder
        self.val_sets = val_sets
        self._started = 0.0
        self._segmented: list[Segmented] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a meta iteration, if it is one of those that are, or a task was left out."""
        module = cast(MetaModule, pl_module)
        iteration, left_out = module.iteration - 1, outputs["left_out"]
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # Lightning sets it late
        if not trainer.is_global_zero or (iteration % every and not left_out):
            return
        scalars = iteration_scalars(outputs, module.learner)
        log_scalars(trainer.loggers, scalars | {"meta/memory_gib": peak_memory(module.device)}, iteration)
        for board in boards(trainer.loggers) if left_out else ():
            board.text("meta/left_out_tasks", ", ".join(left_out), iteration)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._segmented = []

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the record of a sequence, and write its picture."""
        if not isinstance(outputs, Validated):
            return
        picture = None
        if outputs.strip is not None:
            name = picture_name(outputs.record.sequence)
            picture = self._folder(pl_module) / self.val_sets[dataloader_idx] / name
            outputs.strip.save(picture)
        number = batch_idx * trainer.world_size + trainer.global_rank
        self._segmented.append(Segmented(dataloader_idx, number, outputs.record, picture))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what the processes found together."""
        segmented = sorted(chain(*all_gather(self._segmented)), key=lambda one: (one.val_set, one.number))
        if not segmented or not trainer.is_global_zero:
            return
        module = cast(MetaModule, pl_module)
        seconds = {"val/seconds": time.perf_counter() - self._started}
        log_scalars(trainer.loggers, module.scores | seconds, module.iteration)
        sequences = [sequence_row(self.val_sets[one.val_set], one.record) for one in segmented]
        pictures = {self._picture_name(one): one.picture for one in segmented if one.picture}
        blocks = {
            name: lrs.detach().cpu().numpy() for name, lrs in module.learner.inner_lrs_by_block().items()
        }
        write_whole(self._folder(module) / "sequences.csv", csv_text(sequences).encode())
        write_whole(self._folder(module) / "inner_lr.csv", csv_text(quantile_rows(blocks)).encode())
        for board in boards(trainer.loggers):
            board.table("val/sequences", sequences, module.iteration)
            for name, path in pictures.items():
                board.picture(name, path, module.iteration)
            for block, lrs in blocks.items():
                board.histogram(f"inner_lr_histogram/{block}", lrs, module.iteration)

    def _picture_name(self, one: Segmented) -> str:
        return "/".join(filter(None, ["val", self.val_sets[one.val_set], "overlay", one.record.sequence]))

    def _folder(self, pl_module: pl.LightningModule) -> Path:
        """Where the files of this validation belong."""
        return self.folder / f"{cast(MetaModule, pl_module).iteration:06d}"


def picture_name(sequence: str) -> str:
    """The file name of the picture of a sequence, which may have any name; a long one is cut."""
    quoted = quote(sequence, safe=" ")
    if len(quoted) > LONGEST:
        quoted = f"{quoted[:LONGEST]}-{hashlib.sha256(sequence.encode()).hexdigest()[:8]}"
    return f"{quoted}.jpg"


def log_scalars(loggers: Sequence[Logger], scalars: Mapping[str, float], iteration: int) -> None:
    """Give figures to all loggers."""
    # Lightning's own step counts optimiser steps, which stand still when no task was finite.
    for logger in loggers:
        logger.log_metrics(dict(scalars), step=iteration)


def iteration_scalars(iteration: Iteration, learner: MetaLearner) -> dict[str, float]:
    """The figures of a meta iteration, by name."""
    scalars = {
        "meta/nonfinite_tasks": float(len(iteration["left_out"])),
        "meta/seconds": iteration["seconds"],
    }
    if iteration["losses"]:
        query, *support = iteration["losses"]
        scalars |= {"meta/query_loss": query}
        scalars |= {"meta/support_loss_first": support[0], "meta/support_loss_last": support[-1]}
        scalars |= {f"meta/support_loss/{step}": loss for step, loss in enumerate(support, start=1)}
    scalars |= {f"meta/lr/{group}": lr for group, lr in iteration["lrs"].items()}
    blocks = learner.inner_lrs_by_block()
    on_device: dict[str, Tensor] = {"inner_lr/mean": torch.cat([*blocks.values()]).mean()}
    on_device |= {f"inner_lr/{block}": lrs.mean() for block, lrs in blocks.items()}
    on_device |= {f"meta/grad_norm/{group}": norm for group, norm in iteration["grad_norms"].items()}
    # Read together: each read waits for the device.
    return scalars | dict(zip(on_device, torch.stack([*on_device.values()]).tolist(), strict=True))


def sequence_row(val_set: str, record: SequenceRecord) -> dict[str, Any]:
    """The line of a sequence in the table: J, F and J&F, means over its objects, and seconds."""
    return {
        **({"data set": val_set} if val_set else {}),
        "sequence": record.sequence,
        "objects": record.num_objects,
        **record.means(),
        "s/adaptation": record.seconds_per_adaptation,
        "s/frame": record.seconds_per_frame,
    }


def quantile_rows(blocks: Mapping[str, NDArray[np.float32]]) -> list[dict[str, str]]:
    """How the inner learning rates [N] of each block are spread."""
    return [
        {"block": block, **{name: f"{np.quantile(lrs, share):.4g}" for name, share in QUANTILES.items()}}
        for block, lrs in blocks.items()
    ]


def peak_memory(device: torch.device) -> float:
    """The most memory that this process has had so far, GiB: on the GPU, or in all where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
