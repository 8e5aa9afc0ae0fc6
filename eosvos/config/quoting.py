"""How a value is written on the command line so that the shell and Hydra leave it as it is."""

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import OverrideParseException


def override(key: str, value: str | list[str]) -> str:
    """KEY="VALUE", or a list of them, as Hydra reads it: any text, though ${...} stays a reference."""
    if isinstance(value, list):
        return f"{key}=[{','.join(override('', text)[1:] for text in value)}]"
    return f"{key}={QuotedString(value, Quote.double).with_quotes()}"


def typed(key: str, value: str | list[str]) -> str:
    """The same as it is typed into a shell."""
    return shlex.quote(override(key, value))


def is_readable(key: str, value: str) -> bool:
    """Whether quotes are all that is missing."""
    try:
        OverridesParser.create().parse_overrides([override(key, value)])
    except OverrideParseException:
        return False
    return True
