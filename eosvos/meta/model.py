"""A learner's settings, which its checkpoint brings along, and how it is built from them."""

from typing import Any, Literal, Self, TypeVar

from eosvos.config.build import build, build_a
from eosvos.config.components import DECLARED, Component
from eosvos.config.meta import InnerLR
from eosvos.config.models import MaskRCNN
from eosvos.config.setting import Settings
from eosvos.config.training import Config
from eosvos.meta.learner import MetaLearner
from eosvos.models.segmenter import Segmenter
from eosvos.seeding import isolated_rng

M = TypeVar("M", bound="Model")


class Model(Settings):
    """What a learner is built from; segmenter and backbone each by their `_target_`."""

    segmenter: Component
    backbone: Component
    inner_lr: InnerLR
    order: Literal["first_order", "second_order_heads", "second_order"]
    train_encoder: bool

    @classmethod
    def of(cls, config: Config) -> Self:
        """The learner's part of a configuration."""
        return cls(
            segmenter=config.segmenter,
            backbone=config.backbone,
            inner_lr=config.meta.inner_lr,
            order=config.meta.order,
            train_encoder=config.meta.train_encoder,
        )

    def into(self, config: Config) -> Config:
        """The configuration with this learner in it."""
        part = self.model_copy().__dict__
        meta = {name: part[name] for name in ("inner_lr", "order", "train_encoder")}
        return config.model_copy(
            update={
                "segmenter": self.segmenter,
                "backbone": self.backbone,
                "meta": config.meta.model_copy(update=meta),
            }
        )


def build_learner(model: Model, seed: int) -> MetaLearner:
    """The learner, with fresh weights and inner learning rates; raises UserError for a misfit."""
    with isolated_rng(seed, "initial weights"):
        return MetaLearner(
            build_segmenter(model.segmenter, model.backbone),
            model.inner_lr,
            order=model.order,
            train_encoder=model.train_encoder,
        )


def build_segmenter(segmenter: dict[str, Any], backbone: dict[str, Any]) -> Segmenter:
    """The segmenter on its backbone, whose weights are not read where the segmenter's bring them all.

    A file does, or is refused; so does coco, but for Mask R-CNN it leaves a ResNet-101 its own body.
    """
    weights = segmenter.get("weights", "none") if segmenter["_target_"] in DECLARED else "none"
    of_resnet50 = weights == "coco" and segmenter["_target_"] == MaskRCNN.target
    if weights != "none" and not (of_resnet50 and backbone.get("name") != "resnet50"):
        backbone = _weightless(backbone)
    return build_a(Segmenter, segmenter, build(backbone))


def without_weights(model: Model) -> Model:
    """The same model, with nothing to be read or downloaded: a checkpoint brings all weights itself."""
    parts = {part: _weightless(getattr(model, part)) for part in ("segmenter", "backbone")}
    return model.model_copy(update=parts)


def _weightless(part: dict[str, Any]) -> dict[str, Any]:
    """A network of eosvos without weights to read; what `weights` means to another, nobody knows."""
    declared = part["_target_"] in DECLARED and "weights" in part
    return {**part, "weights": "none"} if declared else part
