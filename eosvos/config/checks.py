"""From what Hydra has composed to a checked configuration; takes no torch."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from eosvos.config.command_line import given, removed, run_mode
from eosvos.config.help import options
from eosvos.config.quoting import typed_text
from eosvos.config.renamed import unknown_key
from eosvos.config.schema import DECLARED
from eosvos.config.setting import Settings
from eosvos.config.training import Config
from eosvos.errors import UserError

S = TypeVar("S", bound=Settings)

MASK_RCNN = "eosvos.models.mask_rcnn.MaskRCNN"
COCO_BACKBONES = ("resnet50", "resnet101")
# Instead of pydantic's words.
_WANTED = {
    "model_type": "is a group of keys, not a value: set the keys in it",
    "dict_type": "is a group of keys, not a value: set the keys in it",
    "bool_type": "must be true or false",
}


def check(cfg: DictConfig, training: bool = True) -> Config:
    """The checked configuration; raises UserError for the first setting that cannot be as it is.

    training: whether the work is train.py's; evaluate.py shares videos among processes, not batches.
    """
    unresolved: Any = OmegaConf.to_container(cfg)
    for problem in _misshapen(Config, unresolved):
        raise UserError(problem)
    for key in sorted(_without_value(unresolved), key=lambda key: key.count(".")):
        choices = options(key)
        mend = f"write {key}=OPTION, one of {', '.join(choices)}" if choices else f"give it, {key}=VALUE"
        raise UserError(f"{key} has no value: {mend}")
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    config = validated(Config, plain)
    parts = {
        part: component(plain["dataset"][part], f"dataset.{part}", _references(unresolved["dataset"][part]))
        for part in ("train", "val", "test")
    }
    for group in ("logger", "callbacks"):
        for name, values in plain[group].items():
            component(values, f"{group}.{name}")
    networks = {part: component(plain[part], part) for part in ("segmenter", "backbone")}
    config = config.model_copy(update={"dataset": config.dataset.model_copy(update=parts), **networks})
    for problem in _combinations(config, training):
        raise UserError(problem)
    return config


def component(values: Any, path: str, references: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The settings of something that a `_target_` makes, checked if it is declared in eosvos.config.

    references: the keys that some of them take their values from.
    """
    if not isinstance(values, Mapping) or not isinstance(values.get("_target_"), str):
        raise UserError(f"{path} has no _target_, which says what is built: choose one of its options")
    declared = DECLARED.get(values["_target_"])
    if declared is None:
        return dict(values)
    for key in removed():
        if key.rpartition(".")[0] == path:
            raise UserError(f"{key} is needed: leave ~{key} out")
    settings = {key: value for key, value in values.items() if key != "_target_"}
    return {
        "_target_": values["_target_"],
        **validated(declared, settings, path, references or {}).model_dump(),
    }


def validated(
    declared: type[S], values: Mapping[str, Any], path: str = "", references: Mapping[str, str] | None = None
) -> S:
    """The declared settings with these values; raises UserError that names the key below `path`.

    references: the keys to name in the place of some.
    """
    try:
        return declared(**values)
    except ValidationError as error:
        raise UserError(_sentence(values, error.errors()[0], path, references or {})) from None


def _without_value(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys that have none."""
    for name, value in values.items():
        if value == "???":
            yield f"{prefix}{name}"
        elif isinstance(value, Mapping):
            yield from _without_value(value, f"{prefix}{name}.")


def _misshapen(declared: type[Settings], values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Say which keys are declared, but not there, and which groups are not groups.

    References to keys in them could not be resolved.
    """
    for name, field in declared.model_fields.items():
        key, default = prefix + name, field.get_default()
        if name not in values:
            yield f"{key} is needed: leave ~{key} out"
        elif not isinstance(default, Settings) or values[name] is None:
            continue
        elif isinstance(values[name], Mapping):
            yield from _misshapen(type(default), values[name], f"{key}.")
        else:
            yield f"{key}={values[name]} {_WANTED['model_type']}"


def _references(values: Any) -> dict[str, str]:
    """The keys that others only refer to, as in `size: ${dataset.size}`."""
    return {
        name: value[2:-1]
        for name, value in (values.items() if isinstance(values, Mapping) else ())
        if isinstance(value, str) and value.startswith("${dataset.")
    }


def _sentence(values: Any, error: ErrorDetails, path: str, references: Mapping[str, str]) -> str:
    """What pydantic has found, in the words of the command line."""
    if error["type"] == "missing":
        key = ".".join([*filter(None, [path]), *map(str, error["loc"])])
        return f"{key} is needed: leave ~{key} out, or give it a value"
    names, values, known = _followed(error["loc"], values)
    key = references.get(".".join(names)) or ".".join(filter(None, [path, *names]))
    message = error["msg"].removeprefix("Value error, ").replace(" after validation", "")
    if error["type"] == "extra_forbidden":
        return unknown_key(key, [name for name in known if name != names[-1]], values)
    if error["type"] == "value_error":
        return f"{key}: {message}" if key else message
    if error["type"] == "string_type" and values is not None:
        of_list = error["input"] is not values
        return f"{key} is no text: write {typed_text(key, given(key) or str(values), of_list)}"
    value = "null" if values is None else values
    wrong = "" if error["input"] == values else f": {error['input']}"
    for beginning in ("Input should", "List should", "String should"):
        message = message.replace(beginning, "must")
    return f"{key}={value}{wrong} {_WANTED.get(error['type'], message)}"


def _followed(loc: tuple[int | str, ...], values: Any) -> tuple[list[str], Any, list[str]]:
    """How far a place of an error is one of keys: its keys, the value there, and the keys beside the last."""
    names: list[str] = []
    known: list[str] = []
    for name in loc:
        if not isinstance(name, str) or not isinstance(values, Mapping) or name not in values:
            break
        names, values, known = [*names, name], values[name], list(values)
    return names, values, known


def _combinations(config: Config, training: bool) -> Iterator[str]:
    """Values that are right by themselves, but not together or not on this machine."""
    yield from _checkpoint(config)
    yield from _processes(config, training)
    yield from _networks(config)


def _checkpoint(config: Config) -> Iterator[str]:
    path = config.checkpoint
    if config.resume and path is None:
        yield "resume=true needs checkpoint=FILE, the last checkpoint of the interrupted run"
    if path is not None and not os.path.exists(path):
        there = sorted(map(str, Path(path).parent.glob("*.ckpt")))
        yield f"checkpoint={path}: there is no such file" + (
            f"; there is {', '.join(there)}" if there else ""
        )


def _processes(config: Config, training: bool) -> Iterator[str]:
    devices = config.trainer.devices
    batches = {"meta.batch_size": config.meta.batch_size} if training else {}
    if training and config.parent.steps:
        batches["parent.batch_size"] = config.parent.batch_size
    for key, size in batches.items():
        if size % devices:
            yield (
                f"{key}={size} cannot be shared evenly among trainer.devices={devices} processes: set {key} "
                f"to a multiple of {devices}"
            )
    if devices > 1 and run_mode() == RunMode.MULTIRUN:
        yield (
            f"-m cannot be combined with trainer.devices={devices}: the other processes re-run the command "
            "line and would start the sweep again; start one run a setting, or set trainer.devices=1"
        )


def _networks(config: Config) -> Iterator[str]:
    segmenter, backbone = config.segmenter, config.backbone
    is_detector, name = segmenter["_target_"] == MASK_RCNN, backbone.get("name")
    if is_detector and config.meta.order == "second_order":
        yield (
            "meta.order=second_order is impossible for Mask R-CNN, for RoIAlign has no second derivative: "
            "use meta.order=second_order_heads or segmenter=light_deeplab"
        )
    if is_detector and segmenter["weights"] == "coco" and name not in COCO_BACKBONES:
        yield (
            f"segmenter.weights=coco: there are none for {name or 'this backbone'}, only for "
            f"{' and '.join(COCO_BACKBONES)}; set segmenter.weights=none"
        )
    if backbone.get("weights") == "coco":
        yield "backbone.weights=coco: these are the weights of a whole Mask R-CNN; set segmenter.weights=coco"
    for part, node, known in (
        ("segmenter", segmenter, ("coco", "none")),
        ("backbone", backbone, ("coco", "imagenet", "none")),
    ):
        weights = node.get("weights", "none")
        if weights not in known and not os.path.isfile(weights):
            yield f"{part}.weights={weights} is none of {', '.join(known)}, and there is no such file"
