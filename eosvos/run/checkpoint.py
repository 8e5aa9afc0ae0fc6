"""Checkpoints: what ours hold beside Lightning's, and how a learner comes out of one."""

import hashlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback

from eosvos.errors import UserError
from eosvos.inference.finetune import FinetuneConfig
from eosvos.meta.learner import MetaLearner
from eosvos.run.instantiate import check_trusted
from eosvos.run.networks import (
    build_learner,
    finetune_config,
    model_config,
    plain,
    plain_without,
    without_weights,
)

KEY = "eosvos"
# Beside it, for what it names is never built.
SETTINGS = "eosvos_run"
FORMAT = 3
_PREFIX = "learner."


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A learner from a checkpoint, and what the checkpoint says about it.

    `stage`: parent or meta; `iteration`: meta iterations done; `digest`: SHA-256 of the file, hexadecimal.
    `settings`: what the run must be resumed with, see `run_settings`.
    """

    learner: MetaLearner
    model: dict[str, Any]
    finetune: FinetuneConfig
    stage: str
    iteration: int
    digest: str
    settings: dict[str, Any]


def run_settings(cfg: DictConfig) -> dict[str, Any]:
    """What fixes the steps of a training run beside its model, but its length and where its data lie."""
    train = plain_without(cfg.dataset.train, "root", "images", "masks")
    drawing = {key: plain(cfg.dataset[key]) for key in ("augment", "query_frames", "frame_window")}
    parent = plain_without(cfg.parent, "steps")
    return {
        "seed": cfg.seed,
        "dataset": {"train": train, **drawing},
        "meta": plain(cfg.meta),
        "parent": parent,
        "precision": cfg.trainer.precision,
        "held_out_tuning_videos": cfg.report.tuning_videos if cfg.report.hold_out else 0,
    }


class StoreRun(Callback):
    """Puts into every checkpoint the configuration, in plain dicts, and how far the stage is."""

    def __init__(self, cfg: DictConfig, stage: str) -> None:
        self.content = {
            "format": FORMAT,
            "model": model_config(cfg),
            "finetune": plain(cfg.finetune),
            "stage": stage,
        }
        self.settings = run_settings(cfg)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration, and count in the stage's own iterations, in its only epoch.

        Lightning's counters would repeat or skip a validation after an interruption, and would take a
        finished stage for finished for ever, whatever number of iterations it is resumed with.
        """
        done = pl_module.iteration
        checkpoint[KEY] = self.content
        checkpoint[SETTINGS] = self.settings
        checkpoint["iteration"] = done
        loop = checkpoint["loops"]["fit_loop"]
        for of_run_or_epoch in ("total", "current"):
            counts = loop["epoch_loop.batch_progress"][of_run_or_epoch]
            counts.update(dict.fromkeys(counts, done))
            loop["epoch_progress"][of_run_or_epoch].update(ready=1, started=1, processed=0, completed=0)
        loop["epoch_loop.batch_progress"]["is_last_batch"] = False
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] = done

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the count back."""
        pl_module.iteration = checkpoint["iteration"]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint of train.py holds, on the CPU; raises UserError if the file is no such checkpoint.

    Nothing in the file is executed, and its configuration asks for nothing outside of eosvos.
    """
    if not path.is_file():
        raise UserError(f"checkpoint={path}: there is no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint={path} cannot be read as a checkpoint of train.py: {reason}") from None
    if not isinstance(content, dict) or KEY not in content:
        raise UserError(f"checkpoint={path} is not a checkpoint of train.py: it has no entry {KEY!r}")
    if content[KEY].get("format") != FORMAT:
        raise UserError(f"checkpoint={path} was written by another version of eosvos: train anew")
    check_trusted(content[KEY])
    return content


def load_checkpoint(
    path: Path, device: str | torch.device = "cpu", changes: Mapping[str, Any] | None = None
) -> LoadedCheckpoint:
    """The learner of a checkpoint, on a device.

    changes: new values of settings that do not depend on the weights, as {"segmenter.select": "score"}.
    Raises UserError if the file is broken or foreign, or its network has no such setting.
    """
    content = read_checkpoint(path)
    stored = content[KEY]
    for key, value in (changes or {}).items():
        *groups, name = key.removeprefix("meta.").split(".")
        part = reduce(getitem, groups, stored["model"])
        if name not in part:
            raise UserError(f"there is no key {key} in the network of checkpoint={path}: leave it out")
        part[name] = value
    learner = build_learner(without_weights(stored["model"]), seed=0)
    state = {n.removeprefix(_PREFIX): v for n, v in content["state_dict"].items() if n.startswith(_PREFIX)}
    try:
        learner.load_state_dict(state)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"checkpoint={path}: its weights do not fit its own configuration: {first}") from None
    return LoadedCheckpoint(
        learner=learner.to(device),
        model=stored["model"],
        finetune=finetune_config(stored["finetune"]),
        stage=stored["stage"],
        iteration=content["iteration"],
        digest=digest_of(path),
        settings=content[SETTINGS],
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
