"""From configuration to networks: the segmenter, the learner around it, and how they are tuned."""

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from eosvos.inference.finetune import FinetuneConfig, OnlineConfig
from eosvos.meta.learner import MetaLearner
from eosvos.meta.learning_rates import RateConfig
from eosvos.meta.outer import GroupConfig, OuterConfig
from eosvos.models.segmenter import Segmenter
from eosvos.run.instantiate import build
from eosvos.seeding import isolated_rng

MODEL_PARTS = ("segmenter", "backbone")


def plain(node: Any) -> Any:
    """The node as plain dicts, lists and values, with all references resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def plain_without(node: Any, *names: str) -> dict[str, Any]:
    """The node as plain values, without some of its keys (where it has them)."""
    return {key: value for key, value in plain(node).items() if key not in names}


def model_config(cfg: DictConfig) -> dict[str, Any]:
    """All that is needed to build the learner again: what goes into a checkpoint."""
    meta = cfg.meta
    return {
        **{part: plain(cfg[part]) for part in MODEL_PARTS},
        "rates": plain(meta.rates),
        "order": meta.order,
        "train_encoder": meta.train_encoder,
    }


def build_learner(model: Mapping[str, Any], seed: int) -> MetaLearner:
    """The learner that `model_config` describes, with fresh rates; raises UserError for a misfit."""
    with isolated_rng(seed, "initial weights"):
        return MetaLearner(
            build_segmenter(model["segmenter"], model["backbone"]),
            RateConfig(**model["rates"]),
            order=model["order"],
            train_encoder=model["train_encoder"],
        )


def build_segmenter(segmenter: Mapping[str, Any], backbone: Mapping[str, Any]) -> Segmenter:
    """The segmenter on its backbone, whose weights are not read where the segmenter's bring them all.

    A file does, or is refused; coco does for a ResNet-50, but leaves a ResNet-101 its own body.
    """
    weights = segmenter.get("weights", "none")
    if weights != "none" and (weights != "coco" or backbone.get("name") == "resnet50"):
        backbone = _weightless(backbone)
    return build(segmenter, backbone=build(backbone))


def without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """The same model, with nothing to be read or downloaded: a checkpoint brings all weights itself."""
    return {**model, **{part: _weightless(model[part]) for part in MODEL_PARTS}}


def _weightless(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**part, "weights": "none"} if "weights" in part else part


def finetune_config(node: Mapping[str, Any]) -> FinetuneConfig:
    """Fine-tuning as configured; `online.every` of None means no online adaptation."""
    values = dict(plain(node))
    online = values.pop("online")
    return FinetuneConfig(**values, online=OnlineConfig(**online) if online["every"] else None)


def outer_config(node: Mapping[str, Any]) -> OuterConfig:
    """The outer optimiser as configured."""
    values = dict(plain(node))
    weights, rates = (GroupConfig(**values.pop(name)) for name in ("weights", "rates"))
    return OuterConfig(**values, weights=weights, rates=rates)


def device_for(accelerator: str) -> torch.device:
    """Where this process computes outside of a Trainer."""
    if accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda")
