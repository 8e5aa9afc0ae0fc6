"""What a checkpoint of train.py must hold, entry by entry."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from torch import Tensor

from eosvos.errors import UserError
from eosvos.run.components import NETWORKS
from eosvos.run.networks import MODEL_PARTS, plain
from eosvos.run.rules import value_problems
from eosvos.run.schema import Finetune, Rates, one_of

KEY = "eosvos"
# Beside it, for what it names is never built.
SETTINGS = "eosvos_run"
FORMAT = 3
_CONFIGURATION: dict[str, Any] = {
    "model": {"segmenter": {}, "backbone": {}, "rates": {}},
    "finetune": {"online": {}},
}
ENTRIES = {"state_dict": {}, KEY: _CONFIGURATION, SETTINGS: {}, "iteration": 0}
"""What is read of a checkpoint, but what Lightning reads: its groups, and a number."""
PREFIX = "learner."
"""What the names of a learner's weights begin with there."""


@dataclass
class StoredModel:
    """What `model_config` returns."""

    segmenter: dict[str, Any] = MISSING
    backbone: dict[str, Any] = MISSING
    rates: Rates = field(default_factory=Rates)
    order: str = one_of("first", "heads", "full")
    train_encoder: bool = MISSING


@dataclass
class Stored:
    """The configuration in a checkpoint."""

    format: int = MISSING
    model: StoredModel = field(default_factory=StoredModel)
    finetune: Finetune = field(default_factory=Finetune)
    stage: str = one_of("parent", "meta")


def refusal(path: Path) -> str:
    """How the sentence begins that refuses a file."""
    return f"checkpoint={path} is broken, or no checkpoint of train.py"


def refuse(beginning: str, problems: Iterable[str]) -> None:
    """Raise UserError with the first of the problems, if there is one."""
    for problem in problems:
        raise UserError(f"{beginning}: {problem}")


def typed(stored: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The stored configuration with the types of the schema, and its missing and impossible values.

    Raises OmegaConf's errors where it has other keys or types. The arguments that a network is built without
    are its own to choose.
    """
    whole = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Stored), stored))
    missing = OmegaConf.missing_keys(whole)
    if missing:
        return {}, [f"{KEY}.{name} is missing" for name in sorted(missing)]
    content, problems = plain(whole), list(value_problems(whole, f"{KEY}."))
    for part in MODEL_PARTS:
        schema = NETWORKS.get(content["model"][part].get("_target_"))
        if schema is not None:
            node = cast(DictConfig, OmegaConf.merge(OmegaConf.structured(schema), content["model"][part]))
            with open_dict(node):
                for name in OmegaConf.missing_keys(node):
                    del node[name]
            problems += value_problems(node, f"{KEY}.model.{part}.")
            content["model"][part] = plain(node)
    return content, problems


def misfits(value: Any, like: Any, name: str = "") -> Iterator[str]:
    """Say which entries of `like`, nested dicts and lists, `value` lacks or has of another kind.

    A tensor [...] is of the same shape, and finite where the one in `like` is; where that has None, there may
    be any tensor.
    """
    dot = name and f"{name}."
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        for key, item in like.items():
            if key in value:
                yield from misfits(value[key], item, f"{dot}{key}")
            else:
                yield f"{dot}{key} is missing"
    elif isinstance(like, list | tuple) and isinstance(value, list | tuple):
        if len(value) != len(like):
            yield f"{name} has {len(value)} entries and not {len(like)}"
        for i, (item, wanted) in enumerate(zip(value, like, strict=False)):
            yield from misfits(item, wanted, f"{dot}{i}")
    elif not _is_like(value, like):
        yield f"{name or 'what it holds'} is not of the kind that belongs there"
    elif not _is_finite(value) and _is_finite(like):
        yield f"{name} is NaN or infinite"


def _is_like(value: Any, like: Any) -> bool:
    """Whether a single value, or a tensor [...], may stand in the place of another."""
    if isinstance(value, Tensor) and isinstance(like, Tensor):
        return value.shape == like.shape and value.is_floating_point() == like.is_floating_point()
    if like is None:
        return value is None or isinstance(value, Tensor)
    return type(value) is type(like) or (type(value), type(like)) == (int, float)


def _is_finite(value: Any) -> bool:
    if isinstance(value, Tensor | float):
        return bool(torch.as_tensor(value).isfinite().all())
    return True
