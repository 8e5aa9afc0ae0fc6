"""What a checkpoint must hold, entry by entry."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from eosvos.config.inference import Finetune
from eosvos.config.setting import Settings
from eosvos.errors import UserError
from eosvos.meta.model import Model

KEY = "eosvos"
# Beside it, for what it names is never built.
SETTINGS = "eosvos_run"
FORMAT = 4
ENTRIES = {"state_dict": {}, KEY: {"model": {"segmenter": {}, "backbone": {}}}, SETTINGS: {}, "iteration": 0}
"""What is read of a checkpoint, but what Lightning reads: its groups, and a number."""
LATER = (f"{KEY}.finetune.distinct_copies",)
"""Keys that came after the format: without one its default holds, which is how it was before."""
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
    return f"checkpoint={path} is broken, or no checkpoint of eosvos"


def refuse(beginning: str, problems: Iterable[str]) -> None:
    """Raise UserError with the first of the problems, if there is one."""
    for problem in problems:
        raise UserError(f"{beginning}: {problem}")


def stored(values: Mapping[str, Any], beginning: str) -> Stored:
    """The configuration with these values; raises UserError, `beginning` with the entry, if it is none."""
    try:
        whole = Stored(**values)
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join([KEY, *map(str, first["loc"])])
        raise UserError(f"{beginning}: {entry} is not as it must be ({first['msg']})") from None
    # Another version's default could be another.
    missing = (key for key in _not_given(whole, f"{KEY}.") if key not in LATER)
    refuse(beginning, (f"{key} is missing" for key in missing))
    return whole


def _not_given(settings: Settings, prefix: str = "") -> Iterator[str]:
    """The keys, in groups too, that have their default because no value was given."""
    for name, value in settings:
        if name not in settings.model_fields_set:
            yield prefix + name
        elif isinstance(value, Settings):
            yield from _not_given(value, f"{prefix}{name}.")


def misfits(value: Any, like: Any, name: str = "") -> Iterator[str]:
    """Say which entries of `like`, nested dicts and lists, `value` lacks or has of another kind.

    A tensor [...] is of the same shape, and finite where the one in `like` is; where that has None, there may
    be any tensor.
    """
    if isinstance(like, list | tuple) and isinstance(value, list | tuple):
        if len(value) != len(like):
            yield f"{name} has {len(value)} entries and not {len(like)}"
        value, like = dict(enumerate(value)), dict(enumerate(like))
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        for key, item in like.items():
            path = f"{name}.{key}" if name else str(key)
            if key in value:
                yield from misfits(value[key], item, path)
            else:
                yield f"{path} is missing"
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
