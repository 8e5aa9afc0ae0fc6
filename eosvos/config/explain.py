"""Mistakes on the command line, as Hydra and OmegaConf report them, in a sentence with the mend."""

import itertools
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from eosvos.config.help import options
from eosvos.config.quoting import is_readable, typed
from eosvos.config.renamed import RENAMED, unknown_key
from eosvos.errors import suggest


def explain(error: Exception) -> str | None:
    """What is wrong with the command line, as one sentence that names the key and the mend.

    None for an error that is not about the command line.
    """
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if isinstance(error, MissingMandatoryValue):
        return _without_value(str(error.full_key))
    if not isinstance(error, HydraException | OmegaConfBaseException) and not _is_hydras(error):
        return None
    problem = " ".join(str(error).split())
    for words, sentence in _SENTENCES.items():
        if found := re.search(words, problem):
            return sentence(*found.groups())
    cause: Any = error.__cause__
    if found := re.search(r"To append to your config use \+(.*?)=(.*)", problem):
        return _unknown(cause, *found.groups())
    # "Error merging override" alone does not say why.
    why = f": {str(cause).splitlines()[0]}" if isinstance(cause, OmegaConfBaseException) else ""
    return problem + why


def _unknown(cause: Any, key: str, value: str) -> str:
    """cause: OmegaConf's error, which knows what is not there: the key, or a group that it is in."""
    beside, missing = getattr(cause, "parent_node", None), getattr(cause, "full_key", None)
    known = list(beside) if isinstance(beside, DictConfig) else []
    return unknown_key(key if key in RENAMED else missing or key, known, value)


def _without_value(key: str) -> str:
    choices = options(key)
    mend = f"write {key}=OPTION, one of {', '.join(choices)}" if choices else f"give it, {key}=VALUE"
    return f"{key} has no value: {mend}"


def _several(key: str, value: str) -> str:
    return (
        f"{key}={value}: several values need -m, for a run with each; a list is written {key}=[a,b], "
        f"a text with commas or brackets {typed(key, value)}"
    )


_SENTENCES: dict[str, Callable[..., str]] = {
    r"resolving interpolation: Missing mandatory value: (\S+)": _without_value,
    r"^Interpolation key '(.+?)' not found full_key: (\S+)": (
        "{1} refers to ${{{0}}}, and there is no such key".format
    ),
    r"^In '(\w+)/(\w+)': Could not override '\w+@": (
        "{0}={1} brings networks, too, and cannot be one of several data sets: procedural is the videos alone"
    ).format,
    r"^BasicSweeper does not support sweep type": (
        "interval() has no end of values: give some, or let sweep=optuna choose them"
    ).format,
    r"^Multiple values for (\S+)\.": (
        "{0} is chosen already: choose another option without +, {0}=OPTION"
    ).format,
    r"^(Config group override must be|Could not delete 'logger')": (
        "a group takes the name of one of its options, as in dataset=davis2016; --help lists them, and "
        "logger=[] is no logger"
    ).format,
    r"^(?:Ambiguous value for argument|Sweep parameters) '(.*?)=(.*?)'(?: 1\. To use| requires)": _several,
}
"""Words of Hydra and OmegaConf, and what is said instead, of what their groups match."""


def _is_hydras(error: Exception) -> bool:
    """Whether an error of a general kind comes from Hydra itself, which raises them for mistaken flags."""
    frames = list(traceback.walk_tb(error.__traceback__))
    return bool(frames) and str(frames[-1][0].f_globals.get("__name__")).startswith("hydra.")


def _unreadable(given: str) -> str:
    """What to write instead of something that Hydra cannot read."""
    key, equals, value = given.partition("=")
    if not equals and given in sys.argv:
        # The shell has cut a value at its spaces.
        at = sys.argv.index(given)
        key, equals, value = sys.argv[at - 1].partition("=")
        rest = itertools.takewhile(lambda piece: "=" not in piece, sys.argv[at:])
        value = " ".join([value, *rest])
    if not equals or not is_readable(key, value):
        return f"cannot read {given!r}: write KEY=VALUE"
    return f"cannot read {given!r}: KEY=VALUE with such characters is quoted, {typed(key, value)}"


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if group in ("hydra/launcher", "hydra/sweeper"):
        kind, clause = group.removeprefix("hydra/"), suggest(option, error.options or ())
        if "did you mean" in clause:
            return f"{group} has no option {option}: {clause}"
        package = f"hydra-{option.partition('_')[0]}-{kind}"
        return f"the {kind} {option} is not installed: uv pip install {package}, or leave {group} out"
    if f"{group}={option}" in RENAMED:
        return f"{group}={option} is renamed to {RENAMED[f'{group}={option}']}"
    known = options(group) if group else {}
    if not known:
        return " ".join(str(error).split())
    clause = suggest(option, known)
    listing = f" (all: {', '.join(known)})" if "did you mean" in clause else ""
    return f"{group} has no option {option}: {clause}{listing}"
