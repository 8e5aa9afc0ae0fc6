"""How settings are declared: one pydantic field each, with its type, default, range or choices.

The comment above a field, marked `#:`, says in a sentence what it means and in what unit.
"""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings, which what it configures takes whole.

    Raises pydantic's ValidationError, a ValueError that names the parameters, for values out of range.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )

    target: ClassVar[str | None] = None
