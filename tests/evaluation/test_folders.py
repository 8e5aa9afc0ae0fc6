"""The folders that a run writes into: refused where files of others would be lost."""

import json
import os
import sys

import pytest
from helpers import command_line, config, prepared
from PIL import Image

from eosvos.errors import UserError
from eosvos.evaluation.provenance import record_run
from eosvos.sweep.checks import prepare


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """The run's folder, `run` in the working directory, is in a new folder."""
    monkeypatch.chdir(tmp_path)


def refusal(*overrides, **options):
    with pytest.raises(UserError) as refused:
        prepared(*overrides, **options)
    return str(refused.value)


def test_a_second_run_is_refused_unless_it_may_write_over_the_first():
    given, _ = prepared()
    record_run(given)
    assert "run holds another run" in refusal()
    prepared("overwrite=true")


@pytest.mark.parametrize("name", ["config.yaml", "run.json"])
def test_a_folder_with_files_of_these_names_is_refused(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    assert "holds another run" in refusal()
    assert "holds another run" in refusal(entry="evaluate")


def test_the_resumed_run_goes_on_in_its_folder_and_no_other_does(tmp_path):
    record_run(config())
    for folder in ("run", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "last.ckpt").touch()
    own, other = f"checkpoint={tmp_path}/run/last.ckpt", f"checkpoint={tmp_path}/other/last.ckpt"
    prepared(own, "resume=true")
    assert "holds another run" in refusal(own)
    assert "holds another run" in refusal(other, "resume=true")


def test_an_evaluation_goes_on_with_the_same_command_alone(tmp_path, monkeypatch):
    with command_line("hydra.runtime.output_dir=run", "hydra.mode=RUN", entry="evaluate") as cfg:
        record_run(prepare(cfg, training=False)[0])
        prepare(cfg, training=False)
        monkeypatch.setattr(sys, "argv", [*sys.argv, "seed=1"])
        with pytest.raises(UserError, match="holds another run"):
            prepare(cfg, training=False)


def test_an_evaluation_from_python_goes_on_in_the_folder_of_an_evaluation(tmp_path, monkeypatch):
    record_run(config(entry="evaluate"))
    monkeypatch.setattr(sys, "argv", ["a notebook that was started again"])
    prepared(entry="evaluate")
    (tmp_path / "run/checkpoints").mkdir()
    assert "holds another run" in refusal(entry="evaluate")
    (tmp_path / "run/checkpoints").rmdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(["broken"]))
    assert "holds another run" in refusal(entry="evaluate")


def test_other_processes_of_a_run_come_when_it_has_begun(monkeypatch):
    record_run(config())
    monkeypatch.setenv("LOCAL_RANK", "1")
    prepared()


@pytest.mark.parametrize("place", [".", "..", "../..", "{}"])
def test_the_working_directory_is_no_run_folder(tmp_path, monkeypatch, place):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    assert "would spill" in refusal(output=place.format(os.getcwd()))


@pytest.mark.parametrize("setting", ["output", "results"])
def test_files_and_what_is_below_them_are_no_folders(tmp_path, setting):
    (tmp_path / "file").touch()
    for place in ("file", "file/below/it"):
        assert f"{tmp_path}/file is a file" in refusal(f"{setting}={tmp_path}/{place}")


@pytest.mark.parametrize("setting", ["output", "results"])
def test_a_folder_that_cannot_be_written_to(tmp_path, setting, monkeypatch):
    (tmp_path / "fixed").mkdir(mode=0o500)
    # The superuser may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "fixed")
    assert "cannot be written to" in refusal(f"{setting}={tmp_path}/fixed/new")


def test_no_run_folder_where_videos_are_read(tmp_path):
    for folder in ("clip", "masks"):
        (tmp_path / folder).mkdir()
        for name in ("0", "1", "2"):
            mode = "RGB" if folder == "clip" else "L"
            Image.new(mode, (32, 24), 1).save(tmp_path / folder / f"{name}.png")
    data = ("dataset=folder", f"dataset.images={tmp_path}/clip", f"dataset.masks={tmp_path}/masks")
    net = ("segmenter=light_deeplab", "backbone=tiny", "final_eval.selection_videos=0")
    (tmp_path / "link").symlink_to(tmp_path / "clip")
    for place in ("clip", "clip/run", "masks", "link/run"):
        assert "which is read from" in refusal(*data, *net, output=place)
        assert "which is read from" in refusal(*data, *net, output=place, entry="evaluate")
    prepared(*data, *net, output="clip-run")
