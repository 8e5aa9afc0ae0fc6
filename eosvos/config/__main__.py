"""`python -m eosvos.config > docs/configuration.md`: every setting, from its declaration."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticUndefined

from eosvos.config import data, models, training
from eosvos.config.setting import Settings

PAGES: tuple[tuple[str, str, type[Settings]], ...] = (
    ("A run", "", training.Config),
    ("dataset: how tasks are drawn", "dataset.", data.Tasks),
    ("dataset=synthetic", "dataset.", data.Synthetic),
    ("dataset=davis2016, davis2017", "dataset.", data.Davis),
    ("dataset=youtube_vos", "dataset.", data.YouTubeVOS),
    ("dataset=folder", "dataset.", data.Folder),
    ("segmenter=mask_rcnn, small_mask_rcnn, tiny_mask_rcnn", "segmenter.", models.MaskRCNN),
    ("segmenter=light_deeplab", "segmenter.", models.LightDeepLab),
    ("backbone=resnet18, resnet34, resnet50, resnet101", "backbone.", models.TorchvisionResNet),
    ("backbone=timm, efficientnet_lite0", "backbone.", models.TimmBackbone),
    ("backbone=tiny", "backbone.", models.TinyBackbone),
)
INTRODUCTION = """# Configuration

Every setting, its type or choices, its default and its meaning, made by `python -m eosvos.config` from the
declarations in `eosvos/config`. Options of a group (files in `conf/GROUP/`) override some defaults;
`--cfg job` prints what a command uses. A key of a data set is that of all its videos; `dataset.train.KEY`,
`dataset.val.KEY` and `dataset.test.KEY` set it for some. PART in a key is one of train, val and test.
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([INTRODUCTION, *(line for page in PAGES for line in _table(*page))]) + "\n"


def _table(title: str, prefix: str, declared: type[Settings]) -> Iterator[str]:
    yield f"## {title}\n\n{inspect.getdoc(declared)}\n\n| key | type | default | meaning |\n|---|---|---|---|"
    yield from _rows(declared, prefix)
    yield ""


def _rows(declared: type[Settings], prefix: str) -> Iterator[str]:
    meanings = comments(declared)
    for name, field in declared.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Settings):
            yield from _rows(type(default), f"{prefix}{name}.")
            continue
        path = f"{prefix}PART." if name in declared.of_part else prefix
        shown = "" if default is PydanticUndefined else f"`{json.dumps(default)}`"
        kind = _type(declared, name)
        yield f"| `{path}{name}` | {kind} | {shown} | {meanings[name]} |"


def comments(declared: type[Settings]) -> dict[str, str]:
    """What the comments marked `#:` say of each setting; one without takes the comment of the one above."""
    found: dict[str, str] = {}
    for one in reversed(declared.__mro__):
        if not issubclass(one, Settings) or one is Settings:
            continue
        meaning: list[str] = []
        fresh = False
        for line in inspect.getsource(one).splitlines():
            if comment := re.match(r"    #: (.*)", line):
                meaning = [*meaning, comment[1]] if fresh else [comment[1]]
                fresh = True
            elif setting := re.match(r"    (\w+): ", line):
                found[setting[1]] = " ".join(meaning)
                fresh = False
    return found


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
