"""What a run leaves behind about itself."""

import json
import subprocess
import sys

import torch
from helpers import config
from omegaconf import OmegaConf

from eosvos.evaluation import provenance
from eosvos.evaluation.provenance import git_state, record_run, versions


def test_versions():
    found = versions()
    assert found["python"] == sys.version.split()[0]
    assert found["torch"] == torch.__version__.split("+")[0] or found["torch"] == torch.__version__
    assert all(
        found[name] for name in ("torchvision", "pytorch-lightning", "hydra-core", "learn2learn", "numpy")
    )


def test_missing_package_is_none(monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGES", ("no-such-package-at-all",))
    assert versions()["no-such-package-at-all"] is None


def test_git_state_of_a_checkout(tmp_path, monkeypatch):
    def git(*arguments):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    revision = git("rev-parse", "HEAD").stdout.strip()
    assert git_state() == {"revision": revision, "dirty": False}
    (tmp_path / "file").write_text("two")
    assert git_state() == {"revision": revision, "dirty": True}


def test_no_checkout_no_state(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert git_state() is None


def test_record_is_complete_and_resolved(tmp_path):
    given = config("seed=7", "dataset.size=[32,48]", output=tmp_path / "run")
    record_run(given)
    again = OmegaConf.load(tmp_path / "run" / "config.yaml")
    assert again.dataset.train.size == [32, 48]
    assert again.logger.csv.save_dir == str(tmp_path / "run")
    # All that the run reads is in it, checked.
    assert OmegaConf.to_container(again) == given.model_dump()
    assert "${" not in (tmp_path / "run" / "config.yaml").read_text()
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["seed"] == 7
    assert about["versions"]["torch"]
    assert set(about) == {"command", "overrides", "seed", "start", "versions", "git"}


def test_a_report_of_other_settings_goes(tmp_path):
    for name in ("report.json", "report.csv", "report.md", "report.txt"):
        (tmp_path / name).touch()
    record_run(config(output=tmp_path))
    assert [path.name for path in tmp_path.glob("report.*")] == ["report.txt"]
