"""What a run leaves behind about itself: configuration, versions, git revision, seed."""

import json
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from eosvos.config.command_line import job_overrides
from eosvos.config.training import Config
from eosvos.evaluation.reports import REPORTS
from eosvos.writing import remove, write_whole

ROOT = Path(__file__).resolve().parents[2]
RECORD = ("config.yaml", "run.json")
"""The files that a run begins with."""
PACKAGES = (
    "eosvos",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "omegaconf",
    "learn2learn",
    "timm",
    "numpy",
)


def record_run(config: Config) -> None:
    """Write the resolved configuration (config.yaml) and run.json into the run's folder.

    An older report goes, whose figures would pass for those of this configuration.
    """
    folder = Path(config.output)
    remove(folder / name for name in REPORTS)
    # First, for it marks the folder as that of a run.
    write_whole(folder / "run.json", (json.dumps(about_run(config), indent=2) + "\n").encode())
    write_whole(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config.model_dump())).encode())


def about_run(config: Config) -> dict[str, Any]:
    """What a run is, beside its configuration; plain values."""
    return {
        "command": sys.argv,
        "overrides": job_overrides(),
        "seed": config.seed,
        "start": started_from(config),
        "versions": versions(),
        "git": git_state(),
    }


def started_from(config: Config) -> str | None:
    """The checkpoint whose weights a run began with, however often it was resumed; None without one."""
    if not config.resume:
        return config.checkpoint
    start = recorded(Path(str(config.checkpoint)).parent.parent, "start")
    return start and str(start)


def recorded(folder: Path, key: str) -> Any:
    """What run.json tells of the run that a folder holds; None if there is none."""
    try:
        return json.loads((folder / "run.json").read_text())[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that decide results; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def git_state() -> dict[str, Any] | None:
    """Revision of this git checkout, and whether tracked files differ from it; None if it is none."""
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return None
    return {"revision": revision, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
