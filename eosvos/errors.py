"""What users are meant to read when a program ends early, and how it speaks of names that do not exist."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN = 20
"""Names that a sentence lists at most."""


class UserError(ValueError):
    """Bad input: the message is one sentence that names the file, key or value, and the mend.

    The command line prints it without a traceback and exits with `status`.
    """

    status = 2


class JobsFailedError(UserError):
    """Jobs of a sweep have failed, which has been said of each."""

    status = 1


class Pruned(BaseException):
    """A search ends a run early: the message is a sentence. It is no failure, and no Exception."""


class Interrupted(BaseException):
    """A signal ends the program: the message is one sentence.

    The command line prints it without a traceback and exits with `status`, 128 + `number`. It is no
    Exception: nothing on its way shall take it for a failure of its own.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.status = 128 + number


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A clause with the known names that are close to a mistaken one; else with all, or the first of many.

    prefix: what precedes the name, such as "meta." of a key.
    """
    known = sorted(known)
    close = [prefix + match for match in get_close_matches(name, known, n=3, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {listing(known)}"


def listing(names: Sequence[str]) -> str:
    """Names in a row, the first of many."""
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN]) or 'none'}{more}"
