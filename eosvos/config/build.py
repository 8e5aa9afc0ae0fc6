"""From settings to what they configure."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from eosvos.config.components import settings_of
from eosvos.errors import UserError

# Networks only: other functions of eosvos write files.
TRUSTED = "eosvos.models"


def build(node: Mapping[str, Any], *arguments: Any) -> Any:
    """What the `_target_` of a node makes of `arguments` and the other keys.

    A target that is declared in eosvos.config takes its settings whole, as the last argument; any other takes
    the keys as keyword arguments. Raises UserError for keys or values that the target refuses.
    """
    settings = settings_of(node)
    if settings is not None:
        return get_object(node["_target_"])(*arguments, settings)
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
    if isinstance(config, str) and "${" in config:
        raise UserError(f"{source} holds a reference in its configuration, {config!r}, and is refused")
    if isinstance(config, Mapping) and "_target_" in config:
        target = config["_target_"]
        if not any(_is_of(target, package) for package in (TRUSTED, *trusted)):
            raise UserError(
                f"{source} asks for {target!r}, which is no network of eosvos, and is refused: if it is of a "
                "package that you trust, name that with trusted=[PACKAGE]"
            )
    if isinstance(config, Mapping | list | tuple):
        for value in config.values() if isinstance(config, Mapping) else config:
            check_trusted(value, source, trusted)


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
