"""What the commands give to Lightning, to the report and to the predictor, without doing the work."""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from eosvos.evaluation.report import ReportRow
from eosvos.run.checks import Videos, prepare
from eosvos.run.evaluate import evaluate
from eosvos.run.help import CONF
from eosvos.run.instantiate import build
from eosvos.run.networks import build_learner, model_config
from eosvos.run.report import Comparison
from eosvos.run.stages import data_module
from eosvos.run.train import train
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from eosvos.data.datamodule import VOSDataModule
from eosvos.data.tasks import Task
from eosvos.errors import UserError
from eosvos.inference.predictor import Predictor
from eosvos.meta.learner import MetaLearner
from eosvos.meta.module import MetaModule
from eosvos.models.segmenter import Segmenter


class Asked(pl.Trainer):
    """A Trainer that keeps what it is asked for."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.given = given


@dataclass
class Stage:
    """What Lightning is asked to fit, and how."""

    trainer: pl.Trainer
    module: pl.LightningModule
    data: Any
    options: dict[str, Any]


@dataclass
class Given:
    """What train.py gives to Lightning by stage, to the report, and to the rest; or its error."""

    stages: dict[str, Stage]
    threads: int | None = None
    device: str | None = None
    comparison: Comparison | None = None
    learner: MetaLearner | None = None
    error: str | None = None


class Run:
    """What becomes of a configuration: what is built of it, and, when asked for, both commands."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    @cached_property
    def videos(self) -> Videos:
        return prepare(self.fresh())

    @cached_property
    def network(self) -> Segmenter:
        return build_learner(model_config(self.cfg), self.cfg.seed).segmenter

    @cached_property
    def logger(self) -> Any:
        [node] = self.cfg.logger.values()
        return build(node)

    def tasks(self, stage: str) -> list[Task]:
        """The first tasks of a stage, as its data module draws them."""
        return first_tasks(data_module(self.cfg, self.videos, stage))

    @cached_property
    def given(self) -> Given:
        found = Given({})
        with listening(found) as patch:
            patch.setattr(pl.Trainer, "fit", fitting(found))
            patch.setattr("eosvos.run.stages.pl.Trainer", Asked)
            patch.setattr(pl.Trainer, "save_checkpoint", lambda trainer, path: None)
            patch.setattr("eosvos.run.train.digest_of", lambda path: "digest")
            patch.setattr("eosvos.run.train.close", lambda loggers: None)

            def compare(before: Any, after: Any, comparison: Comparison) -> list[ReportRow]:
                found.comparison = comparison
                return [ReportRow("after", ())]

            patch.setattr("eosvos.run.train.compare", compare)
            try:
                found.learner = train(self.fresh(), self.videos).learner
            except UserError as error:
                found.error = str(error)
        return found

    @cached_property
    def evaluation(self) -> dict[str, Any]:
        """What evaluate.py segments with what, into which folder, on which device; or its error."""
        found: dict[str, Any] = {}
        heard = Given({})

        def fill(folder: Any, predictor: Predictor, videos: Any, **_: Any) -> list[Any]:
            found.update(folder=folder, predictor=predictor, videos=videos, device=heard.device)
            return []

        with listening(heard) as patch:
            patch.setattr("eosvos.run.evaluate.fill_folder", fill)
            try:
                evaluate(self.fresh())
            except UserError as error:
                found["error"] = str(error)
        return found

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
        """Groups of the optimiser by name, and the factor of their rates at an iteration."""
        [optimizer], [schedule] = self.given.stages[stage].module.configure_optimizers()
        groups = {group.get("name", "all"): group for group in optimizer.param_groups}
        return {**groups, "all": optimizer}, schedule["scheduler"].lr_lambdas[0]


@contextmanager
def listening(heard: Given) -> Iterator[pytest.MonkeyPatch]:
    """Note the number of threads and the device, and leave both as they are; spare git and the disk."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            patch.setenv(name, "1")
        patch.setattr(torch, "set_num_threads", lambda number: setattr(heard, "threads", number))
        patch.setattr("eosvos.run.record.git_state", lambda: None)
        patch.setattr("os.fsync", lambda file: None)
        for module in ("train", "evaluate"):
            patch.setattr(
                f"eosvos.run.{module}.device_for", lambda name: setattr(heard, "device", name) or "cpu"
            )
        yield patch


def fitting(heard: Given) -> Callable[..., None]:
    def fit(trainer: pl.Trainer, module: pl.LightningModule, datamodule: Any, **options: Any) -> None:
        stage = "meta" if isinstance(module, MetaModule) else "parent"
        heard.stages[stage] = Stage(trainer, module, datamodule, options)

    return fit


def first_tasks(data: VOSDataModule) -> list[Task]:
    """The tasks of the first two iterations."""
    return [task for batch in islice(data.train_dataloader(), 2) for task in batch]


def composed(output: Path, overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[f"output={output}", *overrides.split()])


def changed(cfg: DictConfig, change: str) -> DictConfig:
    """A copy with other values, which is made in a tenth of the time of composing."""
    copied = copy.deepcopy(cfg)
    for override in OverridesParser.create().parse_overrides(change.split()):
        OmegaConf.update(copied, override.key_or_group, override.value())
    return copied
