"""How a value is written on the command line so that the shell and Hydra leave it as it is."""

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import OverrideParseException


def override(key: str, value: str) -> str:
    """KEY="VALUE" as Hydra reads it: any text, though ${...} stays a reference."""
    return f"{key}={QuotedString(value, Quote.double).with_quotes()}"


def typed(key: str, value: str) -> str:
    """The same as it is typed into a shell."""
    return shlex.quote(override(key, value))


def is_readable(key: str, value: str) -> bool:
    """Whether quotes are all that is missing."""
    try:
        OverridesParser.create().parse_overrides([override(key, value)])
    except OverrideParseException:
        return False
    return True


def typed_text(key: str, text: str, is_list: bool) -> str:
    """KEY=TEXT, or a list of texts, in quotes that keep Hydra from reading numbers and truth values in it."""
    if not is_list:
        return typed(key, text)
    names = [name.strip(" '\"") for name in text.strip("[] ").split(",")]
    return shlex.quote(
        f"{key}=[{','.join(QuotedString(name, Quote.double).with_quotes() for name in names)}]"
    )
