"""How settings are declared: one field each, with its type, default, range or choices.

The comment above a field, marked `#:`, says in a sentence what it means and in what unit. A field without one
shares the comment of the field above it.
"""

import os
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

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
