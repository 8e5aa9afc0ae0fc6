"""The settings that a search chooses from, in Hydra's words for sweeps; takes neither torch nor Optuna."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.conf import HydraConf
from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import OmegaConf
from pydantic import ValidationError

from eosvos.config.search import Search
from eosvos.config.validation import sentence
from eosvos.errors import UserError


def search_settings(hydra: HydraConf) -> Search | None:
    """The settings of a sweep's search; None where another sweeper chooses the jobs; raises UserError."""
    node: Any = OmegaConf.to_container(hydra.sweeper, resolve=True)
    if node.pop("_target_") != Search.target:
        return None
    try:
        settings = Search(**node)
    except ValidationError as error:
        raise UserError(f"hydra.sweeper.{sentence(error, node, node)}") from None
    if find_spec("optuna") is None:
        raise UserError("sweep=optuna needs Optuna: uv pip install optuna")
    return settings


def swept(overrides: Sequence[Override]) -> list[Override]:
    """What a search chooses; raises UserError for what it cannot choose, or do without."""
    for one in overrides:
        if one.key_or_group in ("output", "overwrite"):
            raise UserError(
                f"sweep=optuna goes on with the study in hydra.sweep.dir: leave {one.key_or_group} out, and "
                "choose another folder to begin anew"
            )
        if one.is_sweep_override() and one.key_or_group == "seed":
            raise UserError("sweep=optuna would choose the seed that is lucky: give one, as in seed=0")
        if getattr(one.value(), "shuffle", False):
            raise UserError(f"{one.input_line}: sweep=optuna chooses the order itself, leave shuffle() out")
    found = [one for one in overrides if one.is_sweep_override()]
    if not found:
        raise UserError(
            "sweep=optuna has nothing to choose: give values, as in KEY=choice(A,B) or KEY=interval(LOW,HIGH)"
        )
    return found


def job_words(overrides: Sequence[Override], chosen: Mapping[str, str]) -> list[str]:
    """What a job sets, KEY=TEXT; chosen: the texts of the keys that are swept."""
    keys = [one.get_key_element() for one in overrides]
    return [
        f"{key}={chosen[key] if key in chosen else one.get_value_element_as_str()}"
        for key, one in zip(keys, overrides, strict=True)
    ]


def candidates(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """What jobs set in which every value occurs that a search may choose, of an interval its ends.

    Each occurs with the first of the others: all combinations would be too many to check.
    """
    texts = {one.get_key_element(): _texts(one) for one in swept(overrides)}
    first = {key: values[0] for key, values in texts.items()}
    yield job_words(overrides, first)
    for key, values in texts.items():
        for other in values[1:]:
            yield job_words(overrides, {**first, key: other})


def _texts(override: Override) -> list[str]:
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    found = list(override.sweep_string_iterator())
    if not found:
        raise UserError(f"{override.input_line} has no value to choose from: give some")
    return found
