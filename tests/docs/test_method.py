"""docs/method.md is the specification that the code refers to."""

import re

import pytest
from helpers import ROOT, compose
from omegaconf import OmegaConf

from eosvos.config.help import options

METHOD, CONFIGURATION = ((ROOT / f"docs/{page}.md").read_text() for page in ("method", "configuration"))
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


def test_the_table_at_its_end_covers_every_section_by_options_and_tests_that_exist():
    rows = re.findall(r"^\| (\d+)\. .*? \| (.*?) \| (.*?) \|$", METHOD, flags=re.MULTILINE)
    assert {number for number, *_ in rows} == set(re.findall(r"^## (\d+)\. ", METHOD, flags=re.MULTILINE))
    for _, settings, tests in rows:
        for setting in re.findall(r"`(.+?)`", settings):
            group, _, option = setting.partition("=")
            assert option in options(group) if option else f"| `{setting}` |" in CONFIGURATION, setting
        proofs = re.findall(r"`(.+?)::(\w+)`", tests)
        assert len(proofs) == tests.count("`") // 2 > 0
        for path, name in proofs:
            assert re.search(rf"^def {name}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE), name


@pytest.mark.parametrize(
    "document",
    [
        *("method.md", "checkpoints.md", "dashboard.md", "datasets.md", "extending.md", "results.md"),
        "reproduce.md",
    ],
)
def test_keys_that_a_page_names_exist(document):
    datasets = (
        "davis2016",
        "folder",
        "youtube_vos",
        "synthetic",
        "images",
        "voc2012",
        "coco",
        "youtube_vos_davis2017",
    )
    choices = [*(f"dataset={name}" for name in datasets), "segmenter=deeplabv3", "logger=wandb"]
    configs = [compose(choice) for choice in choices]
    text = (ROOT / "docs" / document).read_text()
    names = re.findall(r"`((?:\w+\.)+\w+)(?:=[^`]*)?`", text)
    keys = {
        name
        for name in names
        if name.partition(".")[0] in configs[0] and not name.endswith((".py", ".yaml", ".json"))
    }
    listed = {key for key in keys if f"| `{key}` |" in CONFIGURATION}
    missing = [key for key in keys - listed if not any(_has(config, key) for config in configs)]
    assert not missing


def _has(config, key):
    parent, _, name = key.rpartition(".")
    group = OmegaConf.select(config, parent)
    return OmegaConf.is_dict(group) and name in group.keys()  # noqa: SIM118  # `in` leaves out what has no value
