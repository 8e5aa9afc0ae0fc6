"""How settings are declared: one field each, with its type, default, range or choices.

The comment above a field, marked `#:`, says in a sentence what it means and in what unit. A field without one
shares the comment of the field above it.
"""

import math
import os
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator

Location = Annotated[str, AfterValidator(os.path.expanduser)]
"""A file or folder, in which a leading ~ is the home folder."""


class Settings(BaseModel):
    """A group of settings, which what it configures takes whole; `target` is the dotted name of that.

    Raises pydantic's ValidationError, a ValueError that names the parameters, for values out of range.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        str_min_length=1,
        protected_namespaces=(),
    )

    target: ClassVar[str | None] = None
    of_part: ClassVar[frozenset[str]] = frozenset()
    """Of a data set: the settings that train, val and test each have for themselves."""

    @field_validator("*")
    @classmethod
    def _no_blank(cls, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.strip():
                raise ValueError(f"{text!r} is no text")
        return value


def finite_numbers(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse settings with NaN or infinity among their numbers."""
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name}={value} must be a finite number")
    return values


def learning_rates(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no optimiser takes as lr and weight_decay."""
    for name in {"lr", "weight_decay"} & values.keys():
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ValueError(f"{name}={value} must be a number from 0")
    if not isinstance(values.get("_target_"), str):
        raise ValueError("it has no _target_, which says what is built: an optimiser of torch.optim")
    return values


Optimizer = Annotated[dict[str, Any], AfterValidator(finite_numbers), AfterValidator(learning_rates)]
"""An optimiser of torch.optim, by `_target_`."""
