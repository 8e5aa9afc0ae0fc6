"""How tables of results look, in a terminal and in Markdown."""

import io
import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def new_table(columns: Sequence[str], title: str | None, style: box.Box) -> Table:
    """A table without rows, whose first column is text and whose others are numbers."""
    table = Table(title=None if title is None else cell_text(title, style), box=style)
    for number, name in enumerate(columns):
        # Where it is narrow, words go on in the next line: cut ones could not be told apart.
        table.add_column(cell_text(name, style), justify="right" if number else "left", overflow="fold")
    return table


def cell_text(text: str, style: box.Box) -> Text:
    """Others' words on one line, in which nothing is taken for markup, nor for a part of the table."""
    line = " ".join(text.splitlines())
    return Text(re.sub(r"([\\|<\[`*])", r"\\\1", line) if style is box.MARKDOWN else line)


def number_text(value: float | None) -> str:
    """A figure with three decimals; a dash for none."""
    return "-" if value is None else f"{value:.3f}"


def with_spread(mean: float | None, spread: float | None) -> str:
    """A mean ± its standard error or deviation, where there is one."""
    return number_text(mean) if spread is None else f"{mean:.3f} ± {spread:.3f}"


def markdown(table: Table) -> str:
    """The table without colours, as wide as it needs to be; trailing blanks go."""
    buffer = io.StringIO()
    Console(file=buffer, width=1000, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()).strip("\n") + "\n"
