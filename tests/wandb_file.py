"""The file that W&B keeps of an offline run: a log as of LevelDB, of records in protocol buffers."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 32768, 7


def records(folder: Path) -> Iterator[Record]:
    """The records of the only run in a folder `wandb`."""
    [path] = folder.glob("offline-run-*/*.wandb")
    data, at, parts = path.read_bytes(), HEADER, b""
    assert data.startswith(b":W&B")
    while at + HEADER <= len(data):
        left = BLOCK - at % BLOCK
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER]) if left >= HEADER else (0, 0, 0)
        if kind == 0:  # The rest of the block is padding.
            at += left
            continue
        parts += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # A whole record, or the last part of one.
            yield Record.FromString(parts)
            parts = b""


def history(folder: Path) -> dict[str, str]:
    """What was logged: figure, text, or what W&B calls it, by name."""
    kinds: dict[str, str] = {}
    for record in records(folder):
        for item in record.history.item:
            name, *rest = item.nested_key or [item.key]
            value = json.loads(item.value_json)
            if not rest:
                kinds[name] = "text" if isinstance(value, str) else "figure"
            elif rest == ["_type"]:
                kinds[name] = value
    return kinds


def configuration(folder: Path) -> dict[str, Any]:
    """The configuration that the run was given."""
    updates = (update for record in records(folder) for update in record.config.update)
    return {update.key: json.loads(update.value_json) for update in updates if update.key}
