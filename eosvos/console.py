"""What a command prints, and writes into its log."""

import logging
from typing import IO, Any

from rich.console import Console

from eosvos.processes import is_rank_zero


def say(*parts: Any) -> None:
    """Print tables and lines, and write them into the log file that the command line has opened."""
    files = [
        handler.stream
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.FileHandler) and is_rank_zero()
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
