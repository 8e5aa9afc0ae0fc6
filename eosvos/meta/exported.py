"""Exported checkpoints: folders of weights (safetensors) and configuration (JSON), not to be resumed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from eosvos.config.pretrained import CONFIGURATION, FILES, WEIGHTS
from eosvos.errors import UserError
from eosvos.meta.stored import SETTINGS, refusal
from eosvos.models.weights import read_saved
from eosvos.writing import write_whole


def read_exported(path: Path) -> Any:
    """What a folder holds, with the entries of a checkpoint of train.py; raises UserError if it is none."""
    for name in FILES:
        if not (path / name).is_file():
            raise UserError(f"{refusal(path)}: there is no {name} in it")
    state = read_saved(path / WEIGHTS, refusal(path))
    try:
        configuration = json.loads((path / CONFIGURATION).read_bytes())
    except (OSError, ValueError, RecursionError):
        raise UserError(f"{refusal(path)}: {CONFIGURATION} cannot be read") from None
    if not isinstance(configuration, Mapping):
        return configuration
    return {**configuration, "state_dict": state, SETTINGS: {}}


def write_exported(path: Path, configuration: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Write a folder: plain values, and tensors [...] by name, no two of which share memory."""
    write_whole(path / WEIGHTS, safetensors.torch.save(dict(state)))
    # Last: without it the folder is none.
    write_whole(path / CONFIGURATION, (json.dumps(configuration, indent=2) + "\n").encode())
