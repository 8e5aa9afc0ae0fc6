"""What a checkpoint of train.py must hold, entry by entry."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.config.schema import DECLARED
from eosvos.config.setting import Settings
from eosvos.errors import UserError
from eosvos.meta.model import Model

KEY = "eosvos"
# Beside it, for what it names is never built.
SETTINGS = "eosvos_run"
FORMAT = 4
ENTRIES = {"state_dict": {}, KEY: {"model": {"segmenter": {}, "backbone": {}}}, SETTINGS: {}, "iteration": 0}
"""What is read of a checkpoint, but what Lightning reads: its groups, and a number."""
PREFIX = "learner."
"""What the names of a learner's weights begin with there."""


class Stored(Settings):
    """The configuration in a checkpoint."""

    format: int
    stage: Literal["parent", "meta"]
    model: Model
    finetune: Finetune


def refusal(path: Path) -> str:
    """How the sentence begins that refuses a file."""
    return f"checkpoint={path} is broken, or no checkpoint of train.py"


def refuse(beginning: str, problems: Iterable[str]) -> None:
    """Raise UserError with the first of the problems, if there is one."""
    for problem in problems:
        raise UserError(f"{beginning}: {problem}")


def stored(values: Mapping[str, Any], beginning: str) -> Stored:
    """The configuration with these values; raises UserError, `beginning` with the entry, if it is none."""
    name = KEY
    try:
        whole = Stored(**values)
        networks = {}
        for part in ("segmenter", "backbone"):
            name = f"{KEY}.model.{part}"
            networks[part] = _component(getattr(whole.model, part))
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join([name, *map(str, first["loc"])])
        raise UserError(f"{beginning}: {entry} is not as it must be ({first['msg']})") from None
    refuse(beginning, _absent(values, whole, KEY))
    return whole.model_copy(update={"model": whole.model.model_copy(update=networks)})


def _absent(values: Mapping[str, Any], settings: Settings, name: str) -> Iterator[str]:
    """Say which of the settings, nested ones too, have no value: a default could be another than it was."""
    for key, setting in settings:
        if key not in values:
            yield f"{name}.{key} is missing"
        elif isinstance(setting, Settings):
            yield from _absent(values[key], setting, f"{name}.{key}")


def _component(values: dict[str, Any]) -> dict[str, Any]:
    declared = DECLARED.get(values.get("_target_"))
    if declared is None:
        return values
    settings = {key: value for key, value in values.items() if key != "_target_"}
    return {"_target_": values["_target_"], **declared(**settings).model_dump()}


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
