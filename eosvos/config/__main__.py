"""`python -m eosvos.config > docs/configuration.md`: every setting, from its declaration."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticUndefined

from eosvos.config.app import App
from eosvos.config.components import DECLARED
from eosvos.config.data import Tasks
from eosvos.config.help import options_table
from eosvos.config.search import Search
from eosvos.config.setting import Settings
from eosvos.config.training import Config, Source

INTRODUCTION = """# Configuration

Every setting, its type or choices, its default and its meaning, made by `python -m eosvos.config` from the
declarations in `eosvos/config`. Options of a group (files in `conf/GROUP/`) override some defaults;
`--cfg job` prints what a command uses. A key of a data set is that of all its videos; `dataset.train.KEY`,
`dataset.val.KEY` and `dataset.test.KEY` set it for some. PART in a key is one of train, val and test. Of
several data sets each has its keys below its name, `dataset.NAME.KEY`.
"""


def tables() -> Iterator[tuple[str, str, type[Settings]]]:
    """What has a table: its title, what its keys begin with, and its declaration."""
    yield "A run", "", Config
    yield "dataset: how tasks are drawn", "dataset.", Tasks
    yield "dataset: each of several", "dataset.NAME.", Source
    for declared in DECLARED.values():
        yield f"{declared.group}: {declared.__name__}", f"{declared.group}.", declared
    yield "sweep: optuna", "hydra.sweeper.", Search
    yield "eosvos-app", "", App


def reference() -> str:
    """The page, in Markdown."""
    page = [INTRODUCTION, "```", options_table(), "```", ""]
    for title, prefix, declared in tables():
        head = "| key | type | default | meaning |\n|---|---|---|---|"
        page += [f"## {title}", "", f"{inspect.getdoc(declared)}", "", head, *_rows(declared, prefix), ""]
    return "\n".join(page) + "\n"


def _rows(declared: type[Settings], prefix: str) -> Iterator[str]:
    for name, field in declared.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Settings):
            yield from _rows(type(default), f"{prefix}{name}.")
            continue
        path = f"{prefix}PART." if name in declared.of_part else prefix
        shown = "" if default is PydanticUndefined else f"`{json.dumps(default)}`"
        meaning = " ".join(str(field.description).split())
        yield f"| `{path}{name}` | {_type(declared, name)} | {shown} | {meaning} |"


def _type(declared: type[Settings], name: str) -> str:
    """The type as it is declared, with its range."""
    schema = declared.model_json_schema()["properties"][name]
    options = schema.get("anyOf", [schema])
    return " or ".join(dict.fromkeys(map(_one_type, options))).replace("|", "\\|")


def _one_type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_one_type(schema.get('items', {}))}"
    bounds = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}"}
    ranges = [words.format(schema[key]) for key, words in bounds.items() if key in schema]
    return " ".join([schema.get("type", "group"), *ranges])


if __name__ == "__main__":
    print(reference(), end="")
