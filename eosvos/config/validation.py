"""Values against the declarations; what is wrong is said in the words of the command line."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from eosvos.config.command_line import overrides
from eosvos.config.quoting import typed
from eosvos.config.renamed import unknown_key

# Instead of pydantic's words.
_WANTED = {
    "model_type": "is a group of keys, not a value: set the keys in it",
    "dict_type": "is a group of keys, not a value: set the keys in it",
    "bool_type": "must be true or false",
}


def sentence(errors: ValidationError, values: Any, unresolved: Any) -> str:
    """What pydantic has found first; of a value that may have several types, what comes nearest to one.

    unresolved: the same values as they are written: what `${..KEY}` refers to is named instead of it.
    """
    near = _nearest(errors, values)
    error = near[0]
    names, value = placed(error["loc"], values)
    key = ".".join(names)
    if reference := re.fullmatch(r"\$\{\.\.(.+)\}", str(placed(names, unresolved)[1])):
        key = ".".join([*names[:-2], reference[1]])
    if error["type"] == "missing":
        key = ".".join(map(str, error["loc"]))
        return f"{key} is needed: leave ~{key} out, or give it a value"
    if error["type"] == "extra_forbidden":
        beside = placed(names[:-1], values)[1]
        return unknown_key(key, [name for name in beside if name != names[-1]], value)
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key}: {message}" if key else message
    if error["type"] == "string_type" and value is not None:
        # In quotes, Hydra reads no number or truth value in it.
        text: Any = overrides().get(key) or str(value)
        if error["input"] is not value:
            text = [name.strip(" '\"") for name in text.strip("[] ").split(",")]
        return f"{key} is no text: write {typed(key, text)}"
    wrong = "" if error["input"] == value else f": {error['input']}"
    wanted = " or ".join(dict.fromkeys(map(_wanted, near))).replace(" or must be ", " or ")
    return f"{key}={'null' if value is None else value}{wrong} {wanted}"


def _nearest(errors: ValidationError, values: Any) -> list[ErrorDetails]:
    """Of what pydantic has found of one value, an error for each of its types, those of the nearest types."""
    names = placed(errors.errors()[0]["loc"], values)[0]
    here = [error for error in errors.errors() if placed(error["loc"], values)[0] == names]
    first = max(here, key=lambda error: len(error["loc"]))
    return [one for one in here if one["input"] is first["input"] and len(one["loc"]) == len(first["loc"])]


def _wanted(error: ErrorDetails) -> str:
    message = re.sub("^(Input|List|String) should", "must", error["msg"])
    return _WANTED.get(error["type"], message.replace(" after validation", ""))


def placed(path: Sequence[int | str], values: Any) -> tuple[list[str], Any]:
    """The keys of a path that are there, and the value that they lead to.

    Other pieces of a path are no keys: an index, or one of several types.
    """
    names: list[str] = []
    for name in path:
        if isinstance(values, Mapping) and name in values:
            names, values = [*names, str(name)], values[name]
    return names, values
