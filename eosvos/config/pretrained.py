"""What a checkpoint may be given as: a path, the name of weights in eosvos, a repository of the Hub."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from eosvos.errors import UserError, suggest

CONFIGURATION, WEIGHTS = FILES = ("config.json", "model.safetensors")
"""The files of an exported checkpoint, which is a folder."""
PACKAGE = Path(__file__).parents[1] / "weights"
"""Where the exported checkpoints that come with eosvos are, by name."""
HUB = "hf://"


class Repository(NamedTuple):
    """A repository of the Hugging Face Hub, OWNER/NAME; revision None: its newest."""

    name: str
    revision: str | None


def names() -> list[str]:
    """The weights that come with eosvos."""
    return sorted(file.parent.name for file in PACKAGE.glob(f"*/{CONFIGURATION}"))


def find(checkpoint: str) -> Path | Repository:
    """Where a checkpoint is; a name that comes with eosvos goes before a file that is called so.

    Raises UserError if there is none, with what there is.
    """
    if checkpoint.startswith(HUB):
        return repository(checkpoint)
    if checkpoint in names():
        return PACKAGE / checkpoint
    path = Path(checkpoint).expanduser()
    if os.path.exists(path):
        return path
    missing = f"checkpoint={checkpoint}: there is no such file"
    if there := sorted(map(str, path.parent.glob("*.ckpt"))):
        missing += f"; there is {', '.join(there)}"
    elif re.fullmatch(r"[\w-]+", checkpoint):
        missing += f", and eosvos brings no weights of that name: {suggest(checkpoint, names())}"
    raise UserError(missing)


def repository(location: str) -> Repository:
    """The repository at hf://OWNER/NAME, or hf://OWNER/NAME@REVISION; raises UserError for anything else."""
    match = re.fullmatch(rf"{HUB}([\w.-]+/[\w.-]+)(?:@(\S+))?", location)
    if match is None:
        raise UserError(f"{location} is no repository: write {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION")
    return Repository(match[1], match[2])
