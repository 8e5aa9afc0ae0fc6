"""Keys that are not there: those of earlier versions, and those that are mistyped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from eosvos.errors import suggest

RENAMED: Any = OmegaConf.to_container(OmegaConf.load(Path(__file__).with_suffix(".yaml")))
"""Keys and options of earlier versions, GROUP=OPTION, and what they are called now."""


def unknown_key(key: str, known: list[str], value: Any = None) -> str:
    """Say what a key that is not there may have been meant for; known: the names beside it.

    value: what it is set to, keys in it included.
    """
    within = [f"{key}.{name}" for name in value] if isinstance(value, Mapping) else [f"{key}={value}"]
    for name in (*within, key):
        if name in RENAMED:
            return f"{name} is renamed to {RENAMED[name]}"
    path, dot, name = key.rpartition(".")
    beside = [other for other in known if other != "_target_"]
    return f"there is no key {key}: {suggest(name, beside, path + dot)}"
