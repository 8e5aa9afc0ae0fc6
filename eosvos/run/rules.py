"""What a setting may be: declared beside its name (schema.py, components.py), and checked here."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf

from eosvos.errors import UserError, suggest
from eosvos.run.help import options


def within(
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    entries: tuple[int, int | None] = (1, None),
) -> Any:
    """A number in [low, high], or greater than `above`; or a list of such, of `entries` (least, most).

    Any number must be finite, and any list has an entry, whether this is declared or not.
    """
    bounds = {"low": low, "high": high, "above": above}
    return field(default=MISSING, metadata={"entries": entries, **bounds})


def one_of(*options: str) -> Any:
    """One of a few words."""
    return field(default=MISSING, metadata={"options": options})


def location() -> Any:
    """A file or folder, in which a leading ~ is the home folder; some take a few words as well."""
    return field(default=MISSING, metadata={"location": True})


def blank() -> Any:
    """A text that may be empty, as others must not."""
    return field(default=MISSING, metadata={"blank": True})


def expand_home(node: DictConfig) -> None:
    """Put the home folder in place of a leading ~ in every setting that is declared as a location."""
    for name, rule in (declared(node) or {}).items():
        value = node[name]
        if isinstance(value, DictConfig):
            expand_home(value)
        elif rule.get("location") and value is not None and value.startswith("~"):
            node[name] = os.path.expanduser(value)


def check_values(node: DictConfig, path: str = "") -> None:
    """Raise UserError for the first setting without value, unknown, out of range, or none of its choices."""
    for problem in value_problems(node, path):
        raise UserError(problem)


def declared(node: DictConfig) -> dict[str, Mapping[str, Any]] | None:
    """The rules of a group's settings by name; None for a group of a file that declares none."""
    kind: Any = OmegaConf.get_type(node)
    return {f.name: f.metadata for f in fields(kind)} if is_dataclass(kind) else None


def value_problems(node: DictConfig, path: str = "") -> Iterator[str]:
    """Say, a sentence each, which settings lack a value, are unknown, or out of their range or choices."""
    rules = declared(node)
    # First the keys of this level: deeper ones may refer to them.
    for name in rules or ():
        if name not in list(node):
            yield f"{path}{name} is needed: leave ~{path}{name} out"
    for name in map(str, node):
        if rules is not None and name not in rules:
            yield f"there is no key {path}{name}: {suggest(name, rules, path)}"
        if OmegaConf.is_missing(node, name):
            choices = options(f"{path}{name}")
            yield f"{path}{name} has no value: " + (
                f"write {name}=OPTION, one of {', '.join(choices)}"
                if choices
                else f"give it on the command line, {path}{name}=VALUE"
            )
    values = {str(name): node[name] for name in node}
    groups = {name: value for name, value in values.items() if isinstance(value, DictConfig)}
    for name, value in values.items():
        if rules is not None and value is not None and name not in groups:
            yield from _flaws(f"{path}{name}={value}", value, rules[name])
    for name, group in groups.items():
        yield from value_problems(group, f"{path}{name}.")


def _flaws(given: str, value: Any, rule: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """What is wrong with a value that is not null, or with an entry in so many lists."""
    if isinstance(value, ListConfig):
        least, most = rule.get("entries", (1, None))
        if not least <= len(value) <= (most or len(value)):
            yield f"{given} needs {least}{'' if least == most else ' or more'} entries, not {len(value)}"
        if depth == 2:
            yield f"{given} is a list too deep: give numbers"
        for entry in value:
            yield from _flaws(f"{given}: {entry}", entry, rule, depth + 1)
    elif value is None or isinstance(value, DictConfig) or ("entries" in rule and isinstance(value, str)):
        yield f"{given} is no number: give numbers alone"
    elif isinstance(value, str):
        if "options" in rule and value not in rule["options"]:
            yield f"{given} is none of {', '.join(rule['options'])}"
        if not value.strip() and not rule.get("blank"):
            yield f"{given} is empty: give it a value"
    elif not isinstance(value, bool):
        yield from _out_of_range(given, value, rule)


def _out_of_range(given: str, value: float, rule: Mapping[str, Any]) -> Iterator[str]:
    low, high, above = (rule.get(name) for name in ("low", "high", "above"))
    if not math.isfinite(value):
        yield f"{given} is no finite number: choose one"
    if low is not None and not value >= low:
        yield f"{given} is too small: it must be at least {low}"
    if above is not None and not value > above:
        yield f"{given} is too small: it must be greater than {above}"
    if high is not None and not value <= high:
        yield f"{given} is too large: it must be at most {high}"
