"""requirements.txt, the pip way, asks for what pyproject.toml asks for."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_requirements_are_those_of_the_package():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    requirements = {line for line in lines if line and not line.startswith("#")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = {line for line in project["dependencies"] if not line.startswith("learn2learn")}
    assert package <= requirements
    unversioned = {"cloudpickle", "requests", "scipy", "tqdm", "cython", "setuptools", "wheel"}
    assert requirements - package == unversioned


def test_the_readme_installs_the_learn2learn_that_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (learn2learn,) = [line for line in project["dependencies"] if line.startswith("learn2learn")]
    assert f" {learn2learn} " in (ROOT / "README.md").read_text()
