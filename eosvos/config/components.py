"""What is built by a `_target_`, and which of it has declared settings."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from eosvos.config import data, models
from eosvos.config.setting import Settings

DECLARED: Mapping[str, type[Settings]] = {
    declared.target: declared
    for room in (data, models)
    for declared in vars(room).values()
    if isinstance(declared, type) and issubclass(declared, Settings) and declared.target
}
"""Declarations of what is built by a `_target_`, by that."""


def settings_of(node: Mapping[str, Any]) -> Settings | None:
    """The settings of what the `_target_` of a node makes; None where its keys are keyword arguments.

    Raises ValueError without a `_target_`, and pydantic's ValidationError for wrong settings.
    """
    target = node.get("_target_")
    if not isinstance(target, str):
        raise ValueError("it has no _target_, which says what is built: give it one")
    declared = DECLARED.get(target)
    return declared(**{key: value for key, value in node.items() if key != "_target_"}) if declared else None


def completed(node: Mapping[str, Any]) -> dict[str, Any]:
    """The node with all settings of what its `_target_` makes, where they are declared; raises likewise."""
    settings = settings_of(node)
    return {**node, **(settings.model_dump() if settings else {})}


Component = Annotated[dict[str, Any], AfterValidator(completed)]
"""Something that is built by its `_target_`, with all of its settings."""
