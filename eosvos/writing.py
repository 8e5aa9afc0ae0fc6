"""Files that eosvos writes: whole or not at all, and never among those that it reads."""

import errno
import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eosvos.errors import UserError

_log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file by which a process has a folder for itself."""
FULL = (errno.ENOSPC, errno.EDQUOT)
# What whole_file calls the file that it writes: the name of the one to come is in it.
_TEMPORARY = re.compile(r"^\.(.+)\.\d+$")


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
    except UserError:
        raise
    except (OSError, ValueError) as error:
        # TensorBoard's logger makes it the cause of a ValueError.
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in FULL:
            raise
        raise UserError(f"{what} cannot be written ({cause.strerror}): {_mend(cause)}") from error


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block, by a lock in the folder, which is made if there is none.

    The system frees it however a process ends; where it has no locks, a warning says so. Raises UserError
    while another process has it.
    """
    # Not by all that write: it takes a tenth of a second.
    from filelock import FileLock, Timeout

    check_writable(folder, "output")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"another process is writing into {folder}: wait for it, end it, or choose another folder"
        ) from None
    except PermissionError as error:
        raise UserError(f"{folder / LOCK} is of another user: choose another folder, or delete it") from error
    except OSError as error:
        _log.warning("%s cannot be locked (%s): let no two processes write into it", folder, error.strerror)
    try:
        yield
    finally:
        lock.release()


def check_writable(path: Path, key: str) -> None:
    """Raise UserError unless a folder is there and can be written, or can be made; `key` names its setting.

    Makes nothing.
    """
    try:
        there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}: choose another place") from error
    if not there.is_dir():
        raise UserError(f"{key}={path}: {there} is a file, not a folder: choose another place")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{key}={path}: the folder {there} cannot be written to: choose another place")


def remove(paths: Iterable[Path]) -> None:
    """Delete those files that are there, and what is left of writing them where that was interrupted.

    Raises UserError if one cannot be deleted.
    """
    wanted = set(paths)
    for folder in {path.parent for path in wanted if path.parent.is_dir()}:
        for file in list(folder.iterdir()):
            if file.with_name(_TEMPORARY.sub(r"\1", file.name)) in wanted:
                _delete(file)


def check_apart(paths: Iterable[Path], read: Iterable[Path], setting: str) -> None:
    """Raise UserError if one of the folders to write into is one that is read, or lies in one.

    setting: what chooses the folders, as "results=out".
    """
    folders = {folder.resolve(): folder for folder in read}
    for path in paths:
        target = path.resolve()
        inside = next((folders[place] for place in (target, *target.parents) if place in folders), None)
        if inside is not None:
            raise UserError(
                f"{setting} would write into {inside}, which is read from: choose a folder apart from it"
            )


def _delete(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{file} cannot be deleted ({error.strerror}): choose another place, or make it writable"
        ) from error


def _mend(error: OSError) -> str:
    if error.errno in FULL:
        return "make room on its disk; what was there before is still whole"
    if error.errno == errno.ENAMETOOLONG:
        return "shorten the name of what it is of"
    return "choose another place, or make it writable"
