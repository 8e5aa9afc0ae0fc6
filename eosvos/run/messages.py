"""Errors for people: one sentence on stderr, exit status 2 (128 + N after signal N), no traceback."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from eosvos.errors import Interrupted, UserError, suggest
from eosvos.processes import interrupt, is_main, take_signals_alone
from eosvos.run.help import options

# What OmegaConf says, as a pattern, and what is wanted instead.
_WANTED = (
    (r"could not be converted to Integer", "must be a whole number"),
    (r"could not be converted to Float", "must be a number"),
    (r"is not a valid bool", "must be true or false"),
    (r"not Optional|non-optional", "needs a value, null will not do"),
    (r"is not a ListConfig, list or tuple", "must be a list, [a, b]"),
    (
        r"Invalid type assigned|Cannot assign|is not a subclass",
        "is a group of keys, not a value: set the keys in it",
    ),
)


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with status 2 and one sentence where the user's input is at fault.

    After Ctrl-C and SIGTERM the status is 130 and 143. Other errors keep their traceback.
    """
    take_signals_alone(interrupt)
    # Hydra then raises what goes wrong while it composes instead of printing it.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    status = 2
    try:
        yield
    except UserError as error:
        message = _with_notes(error)
    except Interrupted as error:
        # Processes that end with another status than 0 would end the main one, which says it.
        message, status = _with_notes(error), 128 + error.number if is_main() else 0
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and "Config group override" not in str(error):
            raise
        message = explain(error)
    else:
        return
    if status:
        print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)


def _with_notes(error: BaseException) -> str:
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def explain(error: Exception) -> str:
    """What goes wrong while Hydra composes, as one sentence that names the key and the mend."""
    problem = " ".join(str(error).split())
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: write KEY=VALUE, with special characters in quotes"
    if problem.startswith("Ambiguous value"):
        given = problem.split(" 1. ")[0]
        return f"several values for a key need -m, for a run with each; a list is written KEY=[a,b] ({given})"
    if problem.startswith("Error resolving interpolation"):
        asked, known = problem.split("possible interpolation keys:")
        absent = [group for group in re.findall(r"\$\{(\w+)\}", asked) if group not in known]
        return f"{' and '.join(absent)} has no value: leave it as it is, or choose one of its options"
    if "Config group override" in problem:
        return "a group takes the name of one of its options, as in dataset=davis2016; --help lists them"
    return _wrong_value(error) or problem


def _unknown_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    known = options(group) if group else {}
    if not known:
        return " ".join(str(error).split())
    clause = suggest(option, known)
    listing = f" (all: {', '.join(known)})" if "did you mean" in clause else ""
    return f"{group} has no option {option}: {clause}{listing}"


def _wrong_value(error: Exception) -> str:
    """A sentence on an override with an unknown key or a value of the wrong type; else empty."""
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match = re.match(r"(?:Error merging override|Could not override) '?([^'\n]*)'?", str(error))
    override = match.group(1) if match else ""
    key = getattr(cause, "full_key", None) or override.lstrip("+~").split("=")[0]
    parent: Any = getattr(cause, "parent_node", None)
    known = [str(name) for name in parent] if hasattr(parent, "keys") else None
    path, dot, name = str(key).rpartition(".")
    if known and key and name not in known:
        return f"there is no key {key}: {suggest(name, known, path + dot)}"
    for pattern, wanted in _WANTED:
        if key and re.search(pattern, str(cause)):
            return f"{key} {wanted} (given: {override})"
    return ""
