"""What a run puts into its checkpoints, and what must agree for a run to go on from one."""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.optim import Optimizer

from eosvos.compat.lightning import count_iterations
from eosvos.config.data import Tasks
from eosvos.config.training import Config, Source
from eosvos.errors import UserError
from eosvos.evaluation.manifest import without_locations
from eosvos.evaluation.results import differences
from eosvos.meta.checkpoint import LoadedCheckpoint, read_checkpoint
from eosvos.meta.model import Model
from eosvos.meta.stored import FORMAT, KEY, SETTINGS, Stored, misfits, refusal, refuse

_log = logging.getLogger(__name__)


def run_settings(config: Config) -> dict[str, Any]:
    """What fixes the steps of a training run beside its model, but its length and where its data lie."""
    final_eval = config.final_eval
    return {
        "seed": config.seed,
        "dataset": {
            **_drawn_from(config.dataset.sources),
            **config.dataset.model_dump(include=set(Tasks.model_fields)),
        },
        "meta": config.meta.model_dump(),
        "parent": config.parent.model_dump(exclude={"steps"}),
        "precision": config.trainer.precision,
        "excluded_videos": final_eval.selection_videos if final_eval.exclude_from_training else 0,
    }


def _drawn_from(sources: Mapping[str, Source]) -> dict[str, Any]:
    """The data sets that are trained on: what fixes the tasks that are drawn from them."""
    settings = {
        name: {
            "train": without_locations(source.train),
            **source.model_dump(include={"weight", "frame_window"}),
        }
        for name, source in sources.items()
        if source.train is not None
    }
    return settings.get("", settings)


def check_same_run(config: Config, loaded: LoadedCheckpoint) -> None:
    """Raise UserError if a run that shall be resumed has other settings, or nothing left to do."""
    checkpoint = f"checkpoint={config.checkpoint}"
    if not loaded.settings:
        raise UserError(
            f"{checkpoint} holds no interrupted run: leave resume=true out to start anew from its weights"
        )
    changed = list(differences(loaded.settings, run_settings(config)))
    if changed:
        raise UserError(
            f"{checkpoint} is of a run with other settings ({'; '.join(changed)}): repeat its command to "
            "resume it, or leave resume=true out to start anew from its weights"
        )
    if config.finetune != loaded.finetune:
        _log.warning(
            "finetune is not as it was when the run was stopped: best.ckpt is chosen among validations that "
            "cannot be compared"
        )
    parent = loaded.stage == "parent"
    key, wanted = ("parent.steps", config.parent.steps) if parent else ("iterations", config.iterations)
    done = f"{checkpoint} has done {loaded.iteration} of {key}={wanted}"
    if loaded.iteration > wanted:
        raise UserError(f"{done}: set {key} to more, or leave resume=true out to start anew from its weights")
    last_stage = not parent or not config.iterations
    if loaded.iteration == wanted and last_stage and _is_evaluated(Path(str(config.checkpoint))):
        raise UserError(
            f"{done}, and its final evaluation is written: nothing is left to do; set {key} to more to train "
            f"on, or measure it with evaluate.py {checkpoint}"
        )


def _is_evaluated(checkpoint: Path) -> bool:
    """Whether the final evaluation of its run is there; an older one is of the run before it was longer."""
    table = checkpoint.parent.parent / "report.json"
    return table.is_file() and table.stat().st_mtime >= checkpoint.stat().st_mtime


class RunInCheckpoint(Callback):
    """Puts into every checkpoint the configuration, in plain dicts, and how far the stage is."""

    def __init__(self, config: Config, stage: Literal["parent", "meta"]) -> None:
        stored = Stored(format=FORMAT, stage=stage, model=Model.of(config), finetune=config.finetune)
        self.content = stored.model_dump()
        self.settings = run_settings(config)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the configuration, and count in the stage's own iterations."""
        checkpoint[KEY] = self.content
        checkpoint[SETTINGS] = self.settings
        checkpoint["iteration"] = pl_module.iteration
        count_iterations(checkpoint, checkpoint["iteration"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the count back."""
        pl_module.iteration = checkpoint["iteration"]


def check_resumable(
    path: Path, trainer: pl.Trainer, module: pl.LightningModule, trusted: Sequence[str]
) -> None:
    """Raise UserError unless a checkpoint holds all that a trainer needs to go on with a module.

    Lightning would take what is missing for new, or go wrong in the middle of it.
    """
    content, configuration = read_checkpoint(path, trusted)
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
    all_step = bool(state) and configuration.stage == "meta"
    moments = {i: like for i, like in _state_after_a_step(optimizer).items() if all_step or i in state}
    refuse(refusal(path), misfits(state, moments, "optimizer_states.0.state"))


def _state_after_a_step(optimizer: Optimizer) -> dict[int, Any]:
    """What an optimiser of this kind keeps of each parameter once it has taken a step."""
    stepped = copy.deepcopy(optimizer)
    for group in stepped.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    stepped.step()
    return cast(dict[int, Any], stepped.state_dict()["state"])
