"""From configuration to objects, and a guard for what a checkpoint may ask for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from eosvos.errors import UserError

# Networks only: other functions of eosvos write files.
TRUSTED = "eosvos.models."


def build(node: Any, **arguments: Any) -> Any:
    """What the node's `_target_` makes of its other keys, as plain values, and of `arguments`.

    A UserError of the target comes through as it is.
    """
    try:
        return instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def check_trusted(config: Any, source: str = "the checkpoint") -> None:
    """Raise UserError unless every `_target_` in plain dicts and lists is defined in eosvos.models.

    For what a file, `source`, brings along: a checkpoint must not be able to call anything else, nor to read
    the environment.
    """
    for key, value in _leaves(config):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{source} holds a reference in its configuration, {value!r}, and is refused")
        if key == "_target_" and not _is_ours(value):
            raise UserError(
                f"{source} asks for {value!r}, which is no network of eosvos, and is refused: "
                "only load checkpoints that you trust"
            )


def _leaves(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(config, Mapping) and key != "_target_":
        for name, value in config.items():
            yield from _leaves(value, str(name))
    elif isinstance(config, list | tuple) and key != "_target_":
        for value in config:
            yield from _leaves(value)
    else:
        yield key, config


def _is_ours(target: Any) -> bool:
    """Whether a dotted name is defined in eosvos.models; something that is only imported there is not."""
    if not isinstance(target, str) or not target.startswith(TRUSTED):
        return False
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    return callable(found) and getattr(found, "__module__", "").startswith(TRUSTED)
