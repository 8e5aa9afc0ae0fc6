"""Mistakes on the command line, as Hydra and OmegaConf report them, in a sentence with the mend."""

import itertools
import re
import sys
import traceback
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from eosvos.config.help import options
from eosvos.config.quoting import is_readable, typed
from eosvos.config.renamed import RENAMED, unknown_key
from eosvos.errors import suggest


def explain(error: Exception) -> str | None:
    """What is wrong with the command line, as one sentence that names the key and the mend.

    None for an error that is not about the command line.
    """
    if not isinstance(error, HydraException | OmegaConfBaseException) and not _is_hydras(error):
        return None
    problem = " ".join(str(error).split())
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override)
    if given := re.match(
        r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: 1\. To use| requires)", problem
    ):
        key, _, value = given.group(1).partition("=")
        return (
            f"{given.group(1)}: several values need -m, for a run with each; a list is written {key}=[a,b], "
            f"a text with commas or brackets {typed(key, value)}"
        )
    if problem.startswith("Error resolving interpolation"):
        asked, known = problem.split("possible interpolation keys:")
        absent = [group for group in re.findall(r"\$\{(\w+)\}", asked) if group not in known]
        return f"{' and '.join(absent)} has no value: leave it as it is, or choose one of its options"
    if given := re.match(r"Interpolation key '(.+?)' not found full_key: (\S+)", problem):
        return f"{given.group(2)} refers to ${{{given.group(1)}}}, and there is no such key"
    if "Config group override" in problem or problem.startswith("Could not delete 'logger'"):
        return (
            "a group takes the name of one of its options, as in dataset=davis2016; --help lists them, and "
            "logger=[] is no logger"
        )
    if given := re.match(r"Multiple values for (\S+)\.", problem):
        return f"{given.group(1)} is chosen already: choose another option without +, {given.group(1)}=OPTION"
    if isinstance(error.__cause__, OmegaConfBaseException):
        # "Error merging override" alone does not say why.
        problem = f"{problem}: {str(error.__cause__).splitlines()[0]}"
    return _wrong_value(error) or problem


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
        kind = group.removeprefix("hydra/")
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


def _wrong_value(error: Exception) -> str:
    """A sentence on an override with an unknown key, or one that takes away what is needed; else empty."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match = re.match(r"(?:Error merging override|Could not override) '?([^'\n]*)'?", str(error))
    override = match.group(1) if match else ""
    key = getattr(cause, "full_key", None) or override.lstrip("+~").split("=")[0]
    parent: Any = getattr(cause, "parent_node", None)
    known = [str(name) for name in parent] if hasattr(parent, "keys") else None
    if override.startswith("~"):
        return f"{key} is needed: leave {override} out"
    name, _, value = (re.findall(r"use \+(.*)", str(error)) or [override])[0].partition("=")
    if name in RENAMED or (known and key and key.rpartition(".")[2] not in known):
        return unknown_key(name or key, known or [], value)
    return ""
