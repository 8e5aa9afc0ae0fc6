"""How a value is written on the command line so that the shell and Hydra leave it as it is."""

import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf

from eosvos.errors import UserError


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


def check_texts(config: DictConfig) -> None:
    """Raise UserError where Hydra has taken a text for a number or a truth value, and so changed it.

    config: a job's whole configuration, with what is set on the command line.
    """
    given = config.hydra.overrides
    for parsed in OverridesParser.create().parse_overrides([*given.task, *given.hydra]):
        key, text = str(parsed.key_or_group), str(parsed.input_line).partition("=")[2].strip()
        stored, value = (
            OmegaConf.select(config, key, throw_on_resolution_failure=False),
            parsed.value(),
        )
        if isinstance(stored, str) and isinstance(value, int | float) and stored != text:
            raise UserError(f"{key}={text} is read as {stored}: write {typed(key, text)}")
        if isinstance(stored, ListConfig) and isinstance(value, list):
            names = [name.strip(" '\"") for name in text.strip("[] ").split(",")]
            for entry, name, element in zip(stored, names, value, strict=False):
                if isinstance(entry, str) and isinstance(element, int | float) and entry != name:
                    quoted = ",".join(f'"{name}"' for name in names)
                    raise UserError(
                        f"{key}: {name} is read as {entry}: write {shlex.quote(f'{key}=[{quoted}]')}"
                    )
