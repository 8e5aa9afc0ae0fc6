"""What a command prints, and writes into its log."""

import logging
from collections.abc import Iterable, Iterator
from typing import IO, Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeRemainingColumn
from rich.text import Text

from eosvos.processes import is_rank_zero

T = TypeVar("T")


class _FramesPerSecond(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f} FPS" if task.speed else "- FPS")


def frames_progress(frames: Iterable[T], total: int, name: str) -> Iterator[T]:
    """Go through the frames of a video; a terminal shows how many, how many a second, and the time left."""
    console = console_for_people()
    columns = "[progress.description]{task.description}", BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns,
        _FramesPerSecond(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        yield from progress.track(frames, total=total, description=escape(name))


def say(*parts: Any) -> None:
    """Print tables and lines, and write them into the log file that the command line has opened.

    A log file that is closed again, or not open yet, has no stream.
    """
    files = [
        handler.stream
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.FileHandler) and handler.stream and is_rank_zero()
    ]
    for console in (console_for_people(), *map(plain_console, files)):
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))


def console_for_people() -> Console:
    """The terminal; or a wide page, where output goes into a file or a pipe. Only the main process speaks."""
    return plain_console(None, quiet=not is_rank_zero())


def plain_console(file: IO[str] | None, quiet: bool = False) -> Console:
    """A console that shows names as they are, with brackets and colons; wide if it is no terminal."""
    console = Console(file=file, quiet=quiet, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 120
    return console
