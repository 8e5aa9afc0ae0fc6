"""The one error that users are meant to read, and how it speaks of names that do not exist."""

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 20
"""Names that a sentence lists at most."""


class UserError(Exception):
    """Bad input: the message is one sentence that names the file, key or value, and the mend.

    The command line prints it without a traceback and exits with status 2.
    """


def suggest(name: str, known: Iterable[str], prefix: str = "") -> str:
    """A clause with the known names that are close to a mistaken one; else with all, or the first of many.

    prefix: what precedes the name, such as "meta." of a key.
    """
    known = sorted(known)
    close = [prefix + match for match in get_close_matches(name, known, n=3, cutoff=0.5)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f", and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"there are {', '.join(known[:SHOWN]) or 'none'}{more}"
