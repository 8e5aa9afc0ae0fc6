"""How settings are declared: one field each, with its type, default, range or choices.

The docstring below a field says in a sentence what it means and in what unit; it is pydantic's description.
"""

import math
import os
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, field_validator, model_validator

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
        use_attribute_docstrings=True,
    )

    target: ClassVar[str | None] = None
    group: ClassVar[str | None] = None
    """Of what is built by a `_target_`: the config group that it is an option of."""
    of_part: ClassVar[frozenset[str]] = frozenset()
    """Of a data set: the settings that train, val and test each have for themselves."""
    parts: ClassVar[frozenset[str]] = frozenset()
    """Of a network: what it consists of."""
    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")
    """Of a data set: what it has videos for."""
    in_order: ClassVar[tuple[str, ...]] = ()
    """Two settings of which the first must not be above the second, where both are given."""

    @field_validator("*")
    @classmethod
    def _no_blank(cls, value: Any) -> Any:
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and not text.strip():
                raise ValueError(f"{text!r} is no text")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        values = [getattr(self, name) for name in self.in_order]
        if None not in values and values != sorted(values):
            given = (f"{name}={value}" for name, value in zip(self.in_order, values, strict=True))
            raise ValueError(" is above ".join(given))
        return self


def _check_optimizer(values: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no optimiser takes: numbers that are not finite, a learning rate or decay below 0."""
    if not isinstance(values.get("_target_"), str):
        raise ValueError("it has no _target_, which says what is built: an optimiser of torch.optim")
    for name, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name}={value} must be a finite number")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in ("lr", "weight_decay") and not (is_number and value >= 0):
            raise ValueError(f"{name}={value} must be a number from 0")
    return values


Optimizer = Annotated[dict[str, Any], AfterValidator(_check_optimizer)]
"""An optimiser of torch.optim, by `_target_`."""
