"""Starting from a checkpoint: what it brings along, and what may be set beside it."""

from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from eosvos.config.checks import check_network
from eosvos.config.command_line import overrides
from eosvos.config.inference import Finetune
from eosvos.config.training import Config
from eosvos.config.validation import placed
from eosvos.console import say
from eosvos.errors import UserError
from eosvos.meta.checkpoint import LoadedCheckpoint, load_checkpoint
from eosvos.meta.learner import MetaLearner
from eosvos.meta.model import Model, build_learner
from eosvos.models.compiled import CompiledEncoder
from eosvos.setup import device_for

BROUGHT_ALONG = ("segmenter", "backbone", "meta.inner_lr", "meta.train_encoder")
INDEPENDENT_OF_WEIGHTS = (
    "meta.order",
    "meta.inner_lr.max_grad_norm",
    "segmenter.gate_margin",
    "segmenter.nms_threshold",
    "segmenter.prior",
    "segmenter.prior_proposals",
    "segmenter.proposals",
    "segmenter.rpn_proposals_test",
    "segmenter.score_threshold",
    "segmenter.select",
)


def with_checkpoint(config: Config, finetune_too: bool = False) -> tuple[Config, LoadedCheckpoint | None]:
    """Load config.checkpoint, if any; returns the configuration with the checkpoint's model in it, too.

    finetune_too: and with its way to fine-tune, see `finetune_for`. Raises UserError if the command line asks
    for another model.
    """
    if config.checkpoint is None:
        return config, None
    asked = OmegaConf.create(config.model_dump())
    keys = overrides()
    changes = {key: OmegaConf.select(asked, key) for key in keys if key in INDEPENDENT_OF_WEIGHTS}
    loaded = load_checkpoint(config.checkpoint, changes=changes, trusted=config.trusted)
    if loaded.published:
        weights, rates = (
            sum(value.numel() for value in values)
            for values in (loaded.learner.weights(), loaded.learner.inner_lrs())
        )
        say(
            f"checkpoint={config.checkpoint}: the published network (segmenter.variant=published), "
            f"{weights:,} weights and {rates:,} inner learning rates after {loaded.iteration} meta iterations"
        )
    merged = loaded.model.into(config)
    if finetune_too:
        merged = merged.model_copy(update={"finetune": finetune_for(config, loaded)})
    brought = OmegaConf.create(merged.model_dump())
    _check_groups(config, merged)
    check_network(merged)
    for key in keys:
        ours, its = OmegaConf.select(asked, key), OmegaConf.select(brought, key)
        if key.startswith(BROUGHT_ALONG) and ours != its:
            there = "" if OmegaConf.is_config(its) else f", which has {its}"
            raise UserError(
                f"{key} cannot be changed beside checkpoint={config.checkpoint}{there}: leave it out, or "
                "take a new network, checkpoint=null"
            )
    return merged, loaded


def _check_groups(config: Config, merged: Config) -> None:
    """Raise UserError where an experiment, or an option of meta, has other settings than the checkpoint.

    Of those that may be set beside one. Where its network is of another kind, it is said which one is taken.
    """
    keys = overrides()
    group = next((name for name in ("experiment", "meta") if name in keys), None)
    if group is None:
        return
    beginning, chosen = "" if group == "experiment" else "meta.", f"{group}={keys[group]}"
    if config.segmenter["_target_"] != merged.segmenter["_target_"]:
        beginning = "meta."
        say(f"The network is that of checkpoint={config.checkpoint}, not that of {chosen}")
    asked, brought = config.model_dump(), merged.model_dump()
    differing = []
    for key in INDEPENDENT_OF_WEIGHTS:
        (_, ours), (names, its) = placed(key.split("."), asked), placed(key.split("."), brought)
        if key.startswith(beginning) and key not in keys and ".".join(names) == key and ours != its:
            differing.append(f"{key} ({ours}, {its})".replace("None", "null"))
    if differing:
        raise UserError(
            f"{chosen} and checkpoint={config.checkpoint} have different values of {', '.join(differing)}: "
            "set each on the command line, KEY=VALUE"
        )


def check_lr_of_inner_lrs(config: Config, merged: Config) -> None:
    """Raise UserError where the outer learning rate of the inner ones is not meant for a checkpoint's.

    Of inner learning rates themselves and of their logarithms it is of other orders of magnitude.
    """
    inner_lr, lr, key = merged.meta.inner_lr, config.meta.outer.inner_lr.lr, "meta.outer.inner_lr.lr"
    if "checkpoint" not in overrides() or key in overrides():
        return
    if lr and config.iterations and config.meta.inner_lr.log != inner_lr.log:
        rates, logarithms = "its inner learning rates", "the logarithms of its inner learning rates"
        learned, other = (logarithms, rates) if inner_lr.log else (rates, logarithms)
        raise UserError(
            f"checkpoint={config.checkpoint} learns {learned}, but {key}={lr} suits {other}: set {key}, such "
            f"as {3e-2 if inner_lr.log else 1e-5}"
        )


def learner_for(config: Config, loaded: LoadedCheckpoint | None) -> MetaLearner:
    """The learner of a checkpoint, or a new one, laid out and compiled as the configuration says."""
    learner = loaded.learner if loaded else build_learner(Model.of(config), config.seed)
    compiles = config.trainer.compile
    if compiles == "auto":
        compiles = device_for(config.trainer.accelerator).type == "cuda"
    if compiles:
        learner.segmenter.compiled = CompiledEncoder(with_gradients=learner.order == "first_order")
    return learner.to(memory_format=torch.channels_last) if config.trainer.channels_last else learner


def finetune_for(config: Config, loaded: LoadedCheckpoint) -> Finetune:
    """How to fine-tune a checkpoint's network: as it was validated, but for what the command line says.

    Without a command line, as the configuration says.
    """
    keys = overrides()
    if not HydraConfig.initialized() or not keys.keys().isdisjoint(("finetune", "experiment")):
        return config.finetune
    asked, finetune = OmegaConf.create(config.model_dump()), OmegaConf.create(loaded.finetune.model_dump())
    for key in keys:
        if key.startswith("finetune."):
            OmegaConf.update(finetune, key.removeprefix("finetune."), OmegaConf.select(asked, key))
    values: Any = OmegaConf.to_container(finetune)
    return Finetune(**values)
