"""What the commands give to Lightning, the final evaluation and the predictor, without the work."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

import eosvos.meta.checkpoint
from eosvos.config.build import build
from eosvos.config.checks import check
from eosvos.config.training import Config
from eosvos.data.datamodule import VOSDataModule
from eosvos.data.splits import Splits, list_videos
from eosvos.data.tasks import Task
from eosvos.errors import UserError
from eosvos.evaluation.evaluate import evaluate
from eosvos.evaluation.tables import Row
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner
from eosvos.meta.module import MetaModule
from eosvos.models.segmenter import Segmenter
from eosvos.sweep.checks import prepare
from eosvos.training.final_eval import FinalEvaluation
from eosvos.training.train import train
from eosvos.training.trainer import data_module

CPU = torch.device("cpu")


class NotingTrainer(pl.Trainer):
    """A Trainer that keeps what it is asked for."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.given = given


class NotingData(VOSDataModule):
    """A data module that keeps what it draws its tasks from."""

    def __init__(self, train: Any, *others: Any, **options: Any) -> None:
        super().__init__(train, *others, **options)
        self.drawn_from = train


@dataclass
class Stage:
    """What Lightning is asked to fit, and how."""

    trainer: pl.Trainer
    module: pl.LightningModule
    data: Any
    options: dict[str, Any]


@dataclass
class Given:
    """What a command gives to Lightning by stage, to the final evaluation, and to the rest; or its error.

    trusted: the packages that may bring a checkpoint's networks, at each reading of one. processes: how many
    evaluate.py starts.
    """

    stages: dict[str, Stage] = field(default_factory=dict)
    threads: int | None = None
    device: str | None = None
    processes: int | None = None
    final_evaluation: FinalEvaluation | None = None
    learner: MetaLearner | None = None
    trusted: list[list[str]] = field(default_factory=list)
    error: str | None = None


class Run:
    """What becomes of a configuration: what is built of it, and, when asked for, both commands."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    @cached_property
    def config(self) -> Config:
        return check(self.cfg)

    @cached_property
    def videos(self) -> Splits:
        return list_videos(self.config)

    @cached_property
    def network(self) -> Segmenter:
        return build_learner(Model.of(self.config), self.config.seed).segmenter

    @cached_property
    def logger(self) -> Any:
        [node] = self.config.logger.values()
        return build(node)

    def tasks(self, stage: Any) -> list[Task]:
        """The first tasks of a stage, as its data module draws them."""
        return first_tasks(data_module(self.config, self.videos, stage))

    @cached_property
    def given(self) -> Given:
        found = Given()
        with listening(found) as patch:
            patch.setattr(pl.Trainer, "fit", fitting(found))
            patch.setattr("eosvos.training.trainer.pl.Trainer", NotingTrainer)
            patch.setattr("eosvos.training.trainer.VOSDataModule", NotingData)
            patch.setattr(pl.Trainer, "save_checkpoint", lambda trainer, path: None)
            patch.setattr("eosvos.training.train.file_digest", lambda path: b"digest")
            patch.setattr("eosvos.training.train.closing", lambda loggers: nullcontext())

            def rows(evaluation: FinalEvaluation, *_: Any) -> list[Row]:
                found.final_evaluation = evaluation
                return [Row("meta-learned", ())]

            patch.setattr(FinalEvaluation, "rows", rows)
            try:
                found.learner = train(*prepare(self.fresh())).learner
            except UserError as error:
                found.error = str(error)
        return found

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What evaluate.py segments with what, into which folder, on which device; or its error."""
        found: dict[str, Any] = {}
        heard = Given()

        def fill(folder: Any, predictor: Predictor, videos: Any, **_: Any) -> list[Any]:
            found.update(folder=folder, predictor=predictor, videos=videos)
            return []

        with listening(heard) as patch:
            patch.setattr("eosvos.evaluation.evaluate.fill_folder", fill)
            patch.setattr("eosvos.evaluation.official.official_tool", lambda: None)
            for name, key in (("write_submission", "submission"), ("official_records", "official")):
                patch.setattr(
                    f"eosvos.evaluation.evaluate.{name}", lambda *_, key=key: found.setdefault(key, [])
                )
            try:
                evaluate(*prepare(self.fresh(), training=False))
            except UserError as error:
                found["error"] = str(error)
        return {**found, "device": heard.device, "processes": heard.processes, "trusted": heard.trusted}

    def fresh(self) -> DictConfig:
        """The configuration, whose folder is not there yet."""
        shutil.rmtree(self.cfg.output, ignore_errors=True)
        return self.cfg

    @property
    def meta(self) -> Stage:
        return self.given.stages["meta"]

    @property
    def parent(self) -> Stage:
        return self.given.stages["parent"]

    @property
    def stages(self) -> tuple[Stage, Stage]:
        return self.meta, self.parent

    def optimizer(self, stage: str) -> tuple[dict[str, Any], Callable[[int], float]]:
        """Groups of the optimiser by name, and the factor of their learning rates at an iteration."""
        [optimizer], [schedule] = self.given.stages[stage].module.configure_optimizers()
        groups = {group["name"]: group for group in optimizer.param_groups if "name" in group}
        return {**groups, "all": optimizer}, schedule["scheduler"].lr_lambdas[0]


@contextmanager
def listening(heard: Given) -> Iterator[pytest.MonkeyPatch]:
    """Note threads, device, processes and trust, and leave the first as they are; spare git and the disk."""
    check_trusted = eosvos.meta.checkpoint.check_trusted

    def note_trusted(config: Any, source: str, trusted: Any) -> None:
        heard.trusted.append(list(trusted))
        check_trusted(config, source, trusted)

    class Fabric:
        def __init__(self, devices: int, **_: Any) -> None:
            heard.processes = devices

        def launch(self) -> None:
            pass

    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            patch.setenv(name, "1")
        patch.setattr(torch, "set_num_threads", lambda number: setattr(heard, "threads", number))
        patch.setattr("eosvos.evaluation.provenance.git_state", lambda: None)
        patch.setattr("eosvos.evaluation.evaluate.Fabric", Fabric)
        patch.setattr("eosvos.meta.checkpoint.check_trusted", note_trusted)
        patch.setattr("os.fsync", lambda file: None)
        # Lightning's Trainer and Fabric are told its type.
        patch.setattr("eosvos.training.trainer.device_for", lambda name: SimpleNamespace(type=name))
        for module in ("training.train", "evaluation.evaluate"):
            patch.setattr(f"eosvos.{module}.device_for", lambda name: setattr(heard, "device", name) or CPU)
        yield patch


def fitting(heard: Given) -> Callable[..., None]:
    def fit(trainer: pl.Trainer, module: pl.LightningModule, datamodule: Any, **options: Any) -> None:
        stage = "meta" if isinstance(module, MetaModule) else "parent"
        heard.stages[stage] = Stage(trainer, module, datamodule, options)

    return fit


def first_tasks(data: VOSDataModule) -> list[Task]:
    """The tasks of the first two iterations."""
    return [task for batch in islice(data.train_dataloader(), 2) for task in batch]
