"""From what Hydra has composed to a checked configuration; takes no torch."""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from eosvos.config.app import App
from eosvos.config.command_line import overrides
from eosvos.config.components import DECLARED
from eosvos.config.data import PARTS, Tasks
from eosvos.config.explain import explain
from eosvos.config.help import options
from eosvos.config.meta import Meta
from eosvos.config.models import DeepLabV3, MaskRCNN, TimmBackbone, TinyBackbone
from eosvos.config.pretrained import find
from eosvos.config.setting import Settings
from eosvos.config.training import Config
from eosvos.config.validation import placed, sentence
from eosvos.errors import UserError

S = TypeVar("S", bound=Settings)

WITH_COCO = (MaskRCNN.target, DeepLabV3.target)
UNDILATED = (TimmBackbone.target, TinyBackbone.target)
COCO_BACKBONES = ("resnet50", "resnet101")
NEEDED = {
    "finetune.distinct_copies": "finetune.augment",
    "finetune.online": "finetune.online.every",
    "segmenter.gate_margin": "segmenter.prior",
}
"""Keys and groups of keys that have no effect while another setting is off."""
NEEDED_IN_TRAINING = {
    "dataset.divide_seed": "dataset.divide",
    "final_eval.exclude_from_training": "final_eval.selection_videos",
    "meta.early_stopping.min_delta": "meta.early_stopping.patience",
    "meta.outer.inner_lr.weight_decay": "meta.outer.inner_lr.lr",
    "meta.step_weights": "meta.multi_step_loss",
    "parent": "parent.steps",
    "val_every": "iterations",
    "val_visualisations": "iterations",
}
OFF = (None, False, 0, "ignore")
FOR_TRAINING = (
    *("parent", "iterations", "minutes", "val_every", "val_visualisations", "final_eval"),
    *("logger", "callbacks", "dataset.train", "dataset.val"),
    *(f"dataset.{name}" for name in Tasks.model_fields),
    *(f"meta.{name}" for name in Meta.model_fields if name not in ("inner_lr", "order", "train_encoder")),
    *(f"trainer.{name}" for name in ("precision", "num_workers", "log_every_n_steps", "save_minutes")),
)
"""Keys and groups of keys that evaluate.py does not read."""


def check(cfg: DictConfig, training: bool = True) -> Config:
    """The checked configuration; raises UserError for the first setting that cannot be as it is.

    training: whether the work is train.py's; evaluate.py shares videos among processes, not batches.
    """
    config = _declared(Config, cfg)
    for problem in _combinations(config, training):
        raise UserError(problem)
    if config.checkpoint is None:
        check_network(config)
    return config


def check_network(config: Config) -> None:
    """Raise UserError for what the network cannot do, and for settings that have no effect.

    What a checkpoint brings is known once it is read.
    """
    for problem in chain(_order(config), _frozen(config), _tasks(config), _idle(config, NEEDED)):
        raise UserError(problem)


def check_app(cfg: DictConfig) -> App:
    """The checked configuration of eosvos-app; raises UserError likewise."""
    settings = _declared(App, cfg)
    find(settings.checkpoint)
    return settings


def _declared(kind: type[S], cfg: DictConfig) -> S:
    """The settings of a kind that are composed."""
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        return kind(**plain)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    except ValidationError as error:
        raise UserError(sentence(error, plain, OmegaConf.to_container(cfg))) from None


def _combinations(config: Config, training: bool) -> Iterator[str]:
    """Values that are right by themselves, but not together or not on this machine."""
    yield from _taken_away(config)
    if training:
        yield from _idle(config, NEEDED_IN_TRAINING)
    yield from _data_sets(config)
    yield from _checkpoint(config)
    yield from _evaluation(config, training)
    yield from _processes(config, training)
    if config.checkpoint is None:
        yield from _networks(config)


def _taken_away(config: Config) -> Iterator[str]:
    """Settings that the command line takes away, ~KEY, and whose defaults would come back unseen."""
    whole = config.model_dump()
    for key, text in overrides().items():
        path = key.split(".")
        if text is None and placed(path, whole)[0] == path:
            yield f"{key} is needed: leave ~{key} out"


def _idle(config: Config, needed_by: Mapping[str, str]) -> Iterator[str]:
    """Settings of the command line that another one makes idle; defaults and presets may be."""
    whole = config.model_dump()
    for key in overrides():
        for beginning, needed in needed_by.items():
            value = placed(needed.split("."), whole)[1]
            if _is_of(key, beginning) and key != needed and value in OFF:
                off = "null" if value is None else str(value).lower()
                yield f"{key} has no effect with {needed}={off}: set {needed}, or leave {key} out"


def only_for_training() -> list[str]:
    """The keys on the command line that evaluate.py does not read."""
    return [key for key in overrides() if any(_is_of(key, beginning) for beginning in FOR_TRAINING)]


def _is_of(key: str, group: str) -> bool:
    return f"{key}.".startswith(f"{group}.")


def _data_sets(config: Config) -> Iterator[str]:
    """A single data set or several, whose weights are comparable."""
    dataset, named = config.dataset, config.dataset.named
    own = [part for part in PARTS if getattr(dataset, part) is not None]
    if own and named:
        yield (
            f"dataset has {own[0]} of its own beside dataset.{next(iter(named))}: choose dataset=mixture, "
            "and add every data set to it"
        )
    if not own and not named:
        yield (
            f"dataset has no videos: write dataset=OPTION, one of {', '.join(options('dataset'))}; with "
            "dataset=mixture, +dataset@dataset.NAME=OPTION for each data set"
        )
    if named and dataset.weight is not None:
        yield "dataset.weight is that of a single data set: set dataset.NAME.weight of each"
    for name in named:
        if not re.fullmatch(r"[\w-]+", name):
            yield f"dataset.{name}: {name!r} cannot name a data set: use letters, digits, _ and -"
    weights = {name: source.weight for name, source in named.items() if source.train is not None}
    without = [name for name, weight in weights.items() if weight is None]
    if 0 < len(without) < len(weights):
        yield (
            f"dataset.{without[0]}.weight is needed beside the weights of others: give every data set one, "
            "or none"
        )


def _checkpoint(config: Config) -> Iterator[str]:
    if config.checkpoint is not None:
        find(config.checkpoint)
    elif config.resume:
        yield "resume=true needs checkpoint=FILE, the last checkpoint of the interrupted run"


def _evaluation(config: Config, training: bool) -> Iterator[str]:
    if training and config.submission:
        yield "submission=true is for evaluate.py: leave it out"
    if training and config.evaluator != "eosvos":
        yield f"evaluator={config.evaluator} is for evaluate.py: leave it out"
    if (config.submission or config.evaluator != "eosvos") and config.results_format in ("overlay", "cutout"):
        key = "submission" if config.submission else "evaluator"
        yield f"{key} needs masks, which results_format={config.results_format} leaves out: set png or both"


def _processes(config: Config, training: bool) -> Iterator[str]:
    devices = config.trainer.devices
    batches = {"meta.batch_size": config.meta.batch_size} if training and config.iterations else {}
    if training and config.parent.steps:
        batches["parent.batch_size"] = config.parent.batch_size
    for key, size in batches.items():
        if size % devices:
            yield (
                f"{key}={size} cannot be shared evenly among trainer.devices={devices} processes: set {key} "
                f"to a multiple of {devices}"
            )


def _frozen(config: Config) -> Iterator[str]:
    """Parts that the network does not have; one of another package is asked once it is built."""
    declared = DECLARED.get(config.segmenter["_target_"])
    freeze, parts = config.meta.outer.freeze, declared.parts if declared else frozenset()
    for part in freeze:
        if parts and part not in parts:
            yield f"meta.outer.freeze={freeze}: the network has no {part}, but {', '.join(sorted(parts))}"
    if parts and parts <= {*freeze} and not config.meta.outer.inner_lr.lr:
        yield "meta.outer.freeze and meta.outer.inner_lr.lr=0 leave nothing to learn: freeze less"


def _tasks(config: Config) -> Iterator[str]:
    """Kinds of tasks that the network cannot learn from."""
    for name in ("no_label", "label_inversion"):
        share = getattr(config.dataset, name)
        if share and config.segmenter["_target_"] == MaskRCNN.target:
            yield (
                f"dataset.{name}={share} is impossible for Mask R-CNN, which learns the box of an object: "
                f"set dataset.{name}=0 or segmenter=light_deeplab"
            )
    if config.dataset.no_label and config.segmenter.get("loss") == "class_balanced":
        yield (
            "dataset.no_label teaches nothing with segmenter.loss=class_balanced, which is 0 without an "
            "object: set segmenter.loss=dice_bce or dataset.no_label=0"
        )


def _order(config: Config) -> Iterator[str]:
    if config.segmenter["_target_"] == MaskRCNN.target and config.meta.order == "second_order":
        yield (
            "meta.order=second_order is impossible for Mask R-CNN, for RoIAlign has no second derivative: "
            "use meta.order=second_order_heads, or segmenter=deeplabv3 or light_deeplab"
        )


def _networks(config: Config) -> Iterator[str]:
    """A new network, whose parts and weights fit together."""
    segmenter, backbone = config.segmenter, config.backbone
    name = backbone.get("name")
    if segmenter["_target_"] == DeepLabV3.target and backbone["_target_"] in UNDILATED:
        yield (
            "DeepLabV3 and DeepLabV3+ need a ResNet of torchvision, whose strides they replace by dilations: "
            "set backbone=resnet50, or segmenter=light_deeplab, which takes any backbone"
        )
    if segmenter["_target_"] in WITH_COCO and segmenter["weights"] == "coco" and name not in COCO_BACKBONES:
        yield (
            f"segmenter.weights=coco: there are none for {name or 'this backbone'}, only for "
            f"{' and '.join(COCO_BACKBONES)}; set segmenter.weights=none"
        )
    if backbone["_target_"] in DECLARED and backbone.get("weights") == "coco":
        yield "backbone.weights=coco: these are the weights of a whole segmenter; set segmenter.weights=coco"
    for part, node, known in (
        ("segmenter", segmenter, ("coco", "none")),
        ("backbone", backbone, ("coco", "imagenet", "none")),
    ):
        # What weights are to a network of another package is its own matter.
        weights = node.get("weights", "none") if node["_target_"] in DECLARED else "none"
        if weights not in known and not os.path.isfile(weights):
            yield f"{part}.weights={weights} is none of {', '.join(known)}, and there is no such file"
