"""The list of choices that --help prints, read from conf/ itself."""

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
)


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
            lines.append(f"  {group + '=' if i == 0 else '':<11}{name:<24}{summary}".rstrip())
    return "\n".join(lines)


def _summary(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and not line.startswith("# @package"):
            return line[2:].strip()
    return ""
