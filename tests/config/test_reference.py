"""docs/configuration.md: what the declarations say, whole."""

import pytest
from helpers import ROOT

from eosvos.config.__main__ import reference, tables
from eosvos.config.components import DECLARED
from eosvos.config.setting import Settings
from eosvos.config.training import Config


def with_groups(declared: type[Settings]) -> list[type[Settings]]:
    """A declaration, and those of the groups in it."""
    groups = [type(field.default) for field in declared.model_fields.values()]
    return [declared, *(one for group in groups if issubclass(group, Settings) for one in with_groups(group))]


def test_the_page_is_made_from_the_declarations():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == reference(), "make it anew: python -m eosvos.config > docs/configuration.md"


def test_every_declaration_has_a_table():
    assert {declared for _, _, declared in tables()} >= {Config, *DECLARED.values()}


@pytest.mark.parametrize("declared", [declared for _, _, declared in tables()], ids=lambda one: one.__name__)
def test_every_setting_has_a_meaning(declared):
    for group in with_groups(declared):
        for name, field in group.model_fields.items():
            if isinstance(field.default, Settings):
                continue
            meaning = " ".join((field.description or "").split())
            assert len(meaning) > 5, f"{group.__name__}.{name}"
            assert (
                meaning[0].isupper()
                or not meaning[0].isalpha()
                or meaning.split()[0].strip(",:") in ("imagenet",)
            ), meaning
            assert meaning.endswith("."), meaning


def test_every_group_is_said():
    for _, _, declared in tables():
        for group in with_groups(declared):
            assert (group.__doc__ or "").strip().endswith((".", ".\n    ")), group
