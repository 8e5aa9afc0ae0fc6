"""Files that eosvos writes: whole or not at all, and never among those that it reads."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eosvos.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file beside `path`, which takes its place when the block is done.

    Nobody ever sees half of the file, and an earlier one of its name stays until the new one is on the disk.
    Makes the folder. Raises UserError where the disk is full or cannot be written; the temporary file goes.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): {_mend(error)}") from error
    finally:
        # Where its folder could not be made, or is a file, there is nothing to take away.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole, see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise UserError that names `what` where the disk is too full for a library that writes it."""
    try:
        yield
    except (OSError, ValueError) as error:
        # TensorBoard's logger makes it the cause of a ValueError.
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in FULL:
            raise
        raise UserError(f"{what} cannot be written ({cause.strerror}): {_mend(cause)}") from error


def check_writable(path: Path, key: str) -> None:
    """Raise UserError unless a folder is there and can be written, or can be made; `key` names its setting.

    Makes nothing.
    """
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise UserError(f"{key}={path}: {there} is a file, not a folder: choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{key}={path}: the folder {there} cannot be written to: choose another place")


def check_apart(path: Path, read: Iterable[Path], key: str) -> None:
    """Raise UserError if a folder to write into is one of those that are read, or lies in one."""
    target = path.resolve()
    for folder in read:
        if target.is_relative_to(folder.resolve()):
            raise UserError(
                f"{key}={path} would write into {folder}, which is read from: choose a folder apart from it"
            )


def _mend(error: OSError) -> str:
    if error.errno in FULL:
        return "make room on its disk; what was there before is still whole"
    return "choose another place, or make it writable"
