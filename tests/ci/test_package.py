"""What users of the package's types rely on."""

from importlib.resources import files
from pathlib import Path
from tomllib import loads

ROOT = Path(__file__).resolve().parents[2]


def test_the_package_says_that_it_is_typed_and_holds_that_file():
    assert files("eosvos").joinpath("py.typed").is_file()
    build = loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build == {"packages": ["eosvos"]}, "nothing of the package is left out"
