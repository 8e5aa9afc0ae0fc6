"""The list of choices that --help prints, read from conf/ itself."""

import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(path for path in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if path.is_dir())
"""The folder of config files: in the package where it is installed, beside it in a checkout."""
GROUPS = (
    "dataset",
    "segmenter",
    "backbone",
    "meta",
    "finetune",
    "trainer",
    "logger",
    "callbacks",
    "experiment",
    "sweep",
)
"""Its folders, in the order of --help."""


def options(group: str) -> dict[str, str]:
    """The options of a config group and what each is for: the first comment of its file.

    Files whose names start with an underscore are parts of others, not options.
    """
    return {path.stem: _summary(path) for path in sorted((CONF / group).glob("[!_]*.yaml"))}


def options_table(*groups: str) -> str:
    """A table of the options of some groups (by default all), a line each."""
    lines = []
    for group in groups or GROUPS:
        for i, (name, summary) in enumerate(options(group).items()):
            lines.append(f"  {group + '=' if i == 0 else '':<12}{name:<24}{summary}".rstrip())
    return "\n".join(lines)


def _summary(path: Path) -> str:
    found = re.search("^# (?!@package)(.*)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found[1].strip() if found else ""
