"""Checkpoints: what ours hold beside Lightning's, and how a learner comes out of one."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import Callback

from eosvos.errors import UserError
from eosvos.finite import all_finite
from eosvos.inference.finetune import FinetuneConfig
from eosvos.meta.learner import MetaLearner
from eosvos.models.weights import read_saved
from eosvos.run.instantiate import check_trusted
from eosvos.run.networks import (
    build_learner,
    finetune_config,
    model_config,
    plain,
    plain_without,
    without_weights,
)
from eosvos.run.stored import ENTRIES, FORMAT, KEY, PREFIX, SETTINGS, misfits, refusal, refuse, typed


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
    if not path.exists():
        raise UserError(f"checkpoint={path}: there is no such file")
    content = read_saved(path, refusal(path))
    stored = content.get(KEY) if isinstance(content, Mapping) else None
    if isinstance(stored, Mapping) and type(stored.get("format")) is int and stored["format"] != FORMAT:
        raise UserError(f"checkpoint={path} was written by another version of eosvos: train anew")
    refuse(refusal(path), misfits(content, ENTRIES))
    check_trusted(stored, f"checkpoint={path}")
    try:
        configuration, problems = typed(cast(Mapping[str, Any], stored))
    except OmegaConfBaseException as error:
        problems = [f"{KEY}.{error.full_key} is unknown, or not of the kind that belongs there"]
    refuse(refusal(path), problems)
    return {**content, KEY: configuration}


def load_checkpoint(
    path: Path, device: str | torch.device = "cpu", changes: Mapping[str, Any] | None = None
) -> LoadedCheckpoint:
    """The learner of a checkpoint, on a device.

    changes: new values of settings that do not depend on the weights, as {"segmenter.select": "score"}.
    Raises UserError if the file is broken or foreign, if weights or learning rates are not finite, or if its
    network has no such setting.
    """
    content = read_checkpoint(path)
    stored = content[KEY]
    for key, value in (changes or {}).items():
        *groups, name = key.removeprefix("meta.").split(".")
        part = reduce(getitem, groups, stored["model"])
        if name not in part:
            raise UserError(f"there is no key {key} in the network of checkpoint={path}: leave it out")
        part[name] = value
    try:
        learner = build_learner(without_weights(stored["model"]), seed=0)
    except UserError as error:
        raise UserError(f"checkpoint={path}: {error}") from None
    except Exception as error:  # What a network raises for what it cannot be made of.
        raise UserError(f"{refusal(path)}: no network can be built as it says") from error
    load_learner(learner, content["state_dict"], f"{refusal(path)}: state_dict", PREFIX)
    return LoadedCheckpoint(
        learner=learner.to(device),
        model=stored["model"],
        finetune=finetune_config(stored["finetune"]),
        stage=stored["stage"],
        iteration=content["iteration"],
        digest=digest_of(path),
        settings=content[SETTINGS],
    )


def load_learner(learner: MetaLearner, state: Any, beginning: str, prefix: str = "") -> None:
    """Load a learner's weights and rates, all of them and finite, from a state dict ([...] by name).

    prefix: what its names begin with. Raises UserError, `beginning` with the reason, for anything else.
    """
    expected = {prefix + name: value for name, value in learner.state_dict().items()}
    refuse(beginning, misfits(state, expected))
    refuse(beginning, (f"{name} is unknown" for name in state if name not in expected))
    learner.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    if not all_finite(rate.rate() for _, rate in learner.named_rates()):
        raise UserError(f"{beginning}: a learning rate is infinite")


def check_resumable(path: Path, trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Raise UserError unless a checkpoint holds all that a trainer needs to go on with a module.

    Lightning would take what is missing for new, or go wrong in the middle of it.
    """
    content = read_checkpoint(path)
    [optimizer], [schedule] = cast(Any, module.configure_optimizers())
    callbacks = {callback.state_key: callback.state_dict() for callback in cast(Any, trainer).callbacks}
    there = content.get("callbacks")
    like = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": "",
        "loops": {"fit_loop": trainer.fit_loop.state_dict()},
        # With another val_every, the callback that saves is another one.
        "callbacks": {
            key: callbacks[key] for key in callbacks if isinstance(there, Mapping) and key in there
        },
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [schedule["scheduler"].state_dict()],
    }
    refuse(refusal(path), misfits(content, like))
    state = content["optimizer_states"][0]["state"]
    # In parent training, a weight has none until a loss depends on it.
    all_step = bool(state) and content[KEY]["stage"] == "meta"
    parameters = enumerate(p for group in optimizer.param_groups for p in group["params"])
    moments = {
        i: {"step": torch.zeros(()), "exp_avg": p, "exp_avg_sq": p}
        for i, p in parameters
        if all_step or i in state
    }
    refuse(refusal(path), misfits(state, moments, "optimizer_states.0.state"))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
