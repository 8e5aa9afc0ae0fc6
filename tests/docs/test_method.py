"""docs/method.md is the specification that the code refers to."""

import re
from pathlib import Path

import pytest
from hydra import config, initialize_config_dir
from omegaconf import OmegaConf

from eosvos.config.schema import register

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.mark.parametrize("document", ["method.md", "datasets.md", "extending.md"])
def test_keys_that_a_page_names_exist(document):
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = [
            config("train", ["dataset=davis2016"]),
            config("train", ["dataset=folder"]),
            config("train", ["dataset=youtube_vos"]),
            config("train", ["dataset=synthetic"]),
        ]
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
