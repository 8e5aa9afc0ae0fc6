"""From settings to what they configure."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from eosvos.config.schema import DECLARED
from eosvos.errors import UserError

# Networks only: other functions of eosvos write files.
TRUSTED = "eosvos.models"


def build(node: Mapping[str, Any], *arguments: Any) -> Any:
    """What the `_target_` of a node makes of `arguments` and the other keys.

    A target that is declared in eosvos.config takes its settings whole, as the last argument; any other takes
    the keys as keyword arguments. Raises UserError for keys or values that the target refuses.
    """
    declared = DECLARED.get(node["_target_"])
    values = {key: value for key, value in node.items() if key != "_target_"}
    if declared is not None:
        return get_object(node["_target_"])(*arguments, declared(**values))
    try:
        return instantiate(dict(node), *arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError | ImportError | AttributeError):
            reason = " ".join(str(cause).split())
            raise UserError(f"{node['_target_']} cannot be built: {reason}") from error
        raise


def build_a(kind: type, node: Mapping[str, Any], *arguments: Any) -> Any:
    """What `build` makes, which is of a kind; raises UserError otherwise."""
    made = build(node, *arguments)
    if not isinstance(made, kind):
        raise UserError(f"{node['_target_']} must make a {kind.__name__}, not {type(made).__name__}")
    return made


def check_trusted(config: Any, source: str, trusted: Sequence[str] = ()) -> None:
    """Raise UserError unless every `_target_` in plain dicts and lists is defined in eosvos.models.

    For what a file, `source`, brings along: a checkpoint must not be able to call anything else, nor to read
    the environment. trusted: further packages that may be asked for.
    """
    for key, value in _leaves(config):
        if isinstance(value, str) and "${" in value:
            raise UserError(f"{source} holds a reference in its configuration, {value!r}, and is refused")
        if key == "_target_" and not any(_is_of(value, package) for package in (TRUSTED, *trusted)):
            raise UserError(
                f"{source} asks for {value!r}, which is no network of eosvos, and is refused: if it is of a "
                "package that you trust, name that with trusted=[PACKAGE]"
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


def _is_of(target: Any, package: str) -> bool:
    """Whether a dotted name is defined in a package; something that is only imported there is not."""
    if not isinstance(target, str) or not target.startswith(f"{package}."):
        return False
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return False
    return callable(found) and f"{getattr(found, '__module__', '')}.".startswith(f"{package}.")
