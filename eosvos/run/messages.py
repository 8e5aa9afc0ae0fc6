"""Errors for people: one sentence on stderr, exit status 2, no traceback."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from eosvos.errors import UserError


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with status 2 and one sentence when the user's input is at fault; other errors keep their traceback."""
    # Hydra then raises what goes wrong while it composes instead of printing it.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    except UserError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        if isinstance(error, ValueError) and "override" not in str(error):
            raise
        message = explain(error)
    else:
        return
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def explain(error: Exception) -> str:
    """What Hydra or OmegaConf complain about, as one sentence that names the key and the mend."""
    if isinstance(error, MissingConfigException):
        return _unknown_option(error)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, MissingMandatoryValue):
        key = getattr(cause, "full_key", None) or str(cause).split(":")[-1].strip()
        return f"{key} has no value: give it on the command line, {key}=VALUE"
    key = getattr(cause, "full_key", None) or _override_of(error).lstrip("+~").split("=")[0]
    known = _siblings(cause)
    if known is not None and key.split(".")[-1] not in known:
        return f"there is no key {key}{suggest(key.split('.')[-1], known)}; python train.py --cfg job shows all keys"
    wanted = _wanted(str(cause).splitlines()[0])
    if key and wanted:
        return f"{key}: {wanted} (given: {_override_of(error) or getattr(cause, 'value', '')})"
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip())


def suggest(word: str, known: Iterable[str]) -> str:
    """A clause with the known words that are closest to a mistaken one, or with all of them if there are few."""
    known = sorted(known)
    close = get_close_matches(word, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; there are {', '.join(known)}"


def _unknown_option(error: MissingConfigException) -> str:
    name = str(error.missing_cfg_file or "")
    group, _, option = name.rpartition("/")
    options = [o for o in error.options or [] if not o.startswith("_")]
    if not options:
        return " ".join(str(error).split())
    return f"{group} has no option {option}{suggest(option, options)} (options: {', '.join(options)})"


def _siblings(cause: BaseException) -> list[str] | None:
    """The keys that stand beside the one that an OmegaConf error is about."""
    parent = getattr(cause, "parent_node", None)
    return [str(key) for key in parent] if hasattr(parent, "keys") else None


def _override_of(error: Exception) -> str:
    match = re.match(r"(?:Error merging override|Could not override|Error parsing override) '?([^'\n]*)'?", str(error))
    return match.group(1).rstrip(".") if match else ""


def _wanted(problem: str) -> str:
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
    if match := re.search(r"could not be converted to (\w+)", problem):
        return f"must be {kinds.get(match.group(1), match.group(1))}"
    if match := re.search(r"is not a valid bool", problem):
        return "must be true or false"
    if "not Optional" in problem or "non-optional" in problem:
        return "needs a value, null will not do"
    if "Invalid type assigned" in problem or "Cannot assign" in problem or "is not a subclass" in problem:
        return "is a group of keys, not a value; set the keys in it"
    return ""
