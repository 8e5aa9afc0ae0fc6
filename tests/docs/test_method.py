"""docs/method.md is the specification that the code refers to."""

import re

import pytest
from helpers import ROOT, compose
from omegaconf import OmegaConf

METHOD = (ROOT / "docs/method.md").read_text()
SOURCES = [path for folder in ("eosvos", "benchmarks", "conf") for path in (ROOT / folder).rglob("*.[py]*")]


def test_its_sections_are_numbered_without_gaps():
    numbers = [int(number) for number in re.findall(r"^## (\d+)\. ", METHOD, flags=re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_every_section_that_the_code_refers_to_is_there():
    sections = set(re.findall(r"^## (\d+)\. ", METHOD, flags=re.MULTILINE))
    asked = {
        (path.name, number)
        for path in SOURCES
        if path.is_file()
        for reference in re.findall(
            r"method,?\s+sections?\s+(\d+(?:(?:,| and| to)\s+\d+)*)", path.read_text()
        )
        for number in re.findall(r"\d+", reference)
    }
    assert len(asked) > 10
    assert not [(name, number) for name, number in asked if number not in sections]


@pytest.mark.parametrize("document", ["method.md", "datasets.md", "extending.md", "results.md"])
def test_keys_that_a_page_names_exist(document):
    datasets = ("davis2016", "folder", "youtube_vos", "synthetic")
    configs = [compose(f"dataset={name}") for name in datasets]
    text = (ROOT / "docs" / document).read_text()
    names = re.findall(r"`((?:\w+\.)+\w+)(?:=[^`]*)?`", text)
    keys = {
        name
        for name in names
        if name.partition(".")[0] in configs[0] and not name.endswith((".py", ".yaml", ".json"))
    }
    missing = [key for key in keys if not any(_has(config, key) for config in configs)]
    assert not missing


def _has(config, key):
    parent, _, name = key.rpartition(".")
    group = OmegaConf.select(config, parent)
    return OmegaConf.is_dict(group) and name in group.keys()  # noqa: SIM118  # `in` leaves out what has no value
