"""evaluate.py on files, in this process: what it leaves, and what it leaves alone."""

import errno
import os
import shutil
import signal

import numpy as np
import pytest
from helpers import LIGHT, prepared
from PIL import Image

from eosvos import writing
from eosvos.errors import UserError
from eosvos.evaluation import unfinished
from eosvos.evaluation.evaluate import evaluate

NETS = (LIGHT, "backbone=tiny", "backbone.width=8", "backbone.fpn_channels=16", "trainer=cpu")
QUICK = ("finetune=quick", "finetune.steps=1", "logger=csv")


def write_clip(folder, frames=3, objects=1, value=90):
    noise = np.random.default_rng(value)
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(frames):
        pixels = noise.integers(0, 255, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{t:05d}.png")


def write_mask(path, top=8):
    labels = np.zeros((32, 48), np.uint8)
    labels[top : top + 12, 8:20] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.save(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with two videos: clips/one and clips/two, their masks, and one mask.png."""
    folder = tmp_path / "here"
    for number, name in enumerate(("one", "two")):
        write_clip(folder / "clips" / name, value=number)
        write_mask(folder / "masks" / name / "00000.png")
    write_mask(folder / "mask.png")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(tmp_path):
    """Evaluate folders of clips, as the command line does: the record of each by name."""

    def evaluated(*overrides, images="clips", masks="masks", results="out"):
        data = ("dataset=folder", f"dataset.images={images}", f"dataset.masks={masks}")
        settings = (*data, *NETS, *QUICK, f"results={results}", *overrides)
        [row] = evaluate(*prepared(*settings, entry="evaluate", output=tmp_path / "run"))
        return {record.sequence: record for record in row.records}

    return evaluated


def content(root):
    """What lies in a folder, but the seconds."""
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.suffix == ".png"}


def again(run, **arguments):
    """The sequences that are not computed again."""
    return {name for name, record in run(**arguments).items() if record.finished_before}


def test_only_what_has_changed_is_computed_again(run, here, capsys):
    assert again(run) == set()
    first = content(here / "out")
    capsys.readouterr()
    assert again(run) == {"one", "two"}
    assert capsys.readouterr().out.count("one (finished before)") == 2
    assert content(here / "out") == first

    write_mask(here / "masks/two/00000.png", top=15)
    assert again(run) == {"one"}
    second = content(here / "out")
    assert {name for name in first if first[name] != second[name]} >= {"two/00000.png", "two.overlay.png"}

    write_clip(here / "clips/one", frames=5, value=0)
    assert again(run) == {"two"}
    assert len(list((here / "out/one").iterdir())) == 5

    shutil.rmtree(here / "clips/one")
    write_clip(here / "clips/one", frames=2, value=7)
    assert again(run) == {"two"}
    assert len(list((here / "out/one").iterdir())) == 2


def test_data_may_move(run, here, monkeypatch):
    run()
    (here / "elsewhere").mkdir()
    for name in ("clips", "masks"):
        (here / name).rename(here / "elsewhere" / name)
    monkeypatch.chdir(here / "elsewhere")
    assert again(run, results="../out") == {"one", "two"}
    moved = {"images": str(here / "elsewhere/clips"), "masks": str(here / "elsewhere/masks")}
    assert again(run, results=str(here / "out"), **moved) == {"one", "two"}


def test_the_same_paths_elsewhere_are_other_videos(run, here, tmp_path, monkeypatch):
    run(images="clips/one", masks="mask.png", results="../out")
    write_clip(tmp_path / "there/clips/one", value=5)
    write_mask(tmp_path / "there/mask.png")
    monkeypatch.chdir(tmp_path / "there")
    assert again(run, images="clips/one", masks="mask.png", results="../out") == set()


@pytest.mark.parametrize(
    ("images", "masks", "results"),
    [
        ("clips/one", "mask.png", "clips"),
        ("clips/one", "mask.png", "clips/one"),
        ("clips/one", "mask.png", "clips/one/out"),
        ("clips/one", "mask.png", "link"),
        ("clips/one", "mask.png", "linked"),
        ("link", "mask.png", "clips/one/out"),
        ("clips", "masks", "clips"),
        ("clips", "masks", "masks"),
        ("clips", "masks", "clips/out"),
        ("clips", "masks", "masks/out"),
        ("clips", "masks", "masks/one"),
    ],
)
def test_nothing_is_written_where_videos_are_read(run, tmp_path, here, images, masks, results):
    (here / "link").symlink_to(here / "clips/one")
    (here / "linked").mkdir()
    (here / "linked/one").symlink_to(here / "clips/one")
    write_mask(here / "masks/one/00001.png")
    before = content(here)
    for overwrite in ("false", "true"):
        with pytest.raises(UserError, match=r"would write into .*, which is read from") as error:
            run(f"overwrite={overwrite}", images=images, masks=masks, results=results)
        assert "overwrite" not in str(error.value)
    assert content(here) == before
    data = ("dataset=folder", f"dataset.images={images}", f"dataset.masks={masks}", f"results={results}")
    with pytest.raises(UserError, match="would write into"):
        prepared(*data, *NETS, "iterations=0", output=tmp_path / "run")


@pytest.mark.parametrize(
    "results", ["JPEGImages/480p", "Annotations/480p", "Annotations/480p/out", "Results", ""]
)
def test_nothing_is_written_among_the_files_of_a_benchmark(tmp_path, here, results):
    write_clip(here / "DAVIS/JPEGImages/480p/cat")
    for path in (here / "DAVIS/JPEGImages/480p/cat").iterdir():
        path.rename(path.with_suffix(".jpg"))
        write_mask(here / f"DAVIS/Annotations/480p/cat/{path.stem}.png")
    (here / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (here / "DAVIS/ImageSets/2017/val.txt").write_text("cat\n")
    data = ("dataset=davis2017", "dataset.root=DAVIS", f"results=DAVIS/{results}")

    def prepare():
        return prepared(*data, *NETS, entry="evaluate", output=tmp_path / "run")

    if results in ("Results", ""):
        _, videos = prepare()
        assert videos.test[""]
        return
    with pytest.raises(UserError, match=f"results=DAVIS/{results} would write into DAVIS/"):
        prepare()


def test_an_evaluation_that_is_refused_leaves_the_report(run, here, tmp_path):
    run()
    names = ("report.json", "config.yaml")
    before = [(tmp_path / "run" / name).read_bytes() for name in names]
    with pytest.raises(UserError, match="holds the results of another evaluation"):
        run("finetune.steps=2")
    assert [(tmp_path / "run" / name).read_bytes() for name in names] == before


@pytest.mark.parametrize("results", ["out", "clips-out", "."])
def test_beside_what_is_read_results_are_welcome(run, here, results):
    before = content(here)
    run(images="clips/one", masks="mask.png", results=results)
    assert (here / results / "one/00002.png").is_file()
    after = content(here)
    assert {name: after[name] for name in before} == before


def test_a_folder_by_way_of_dots_has_its_own_name(run, here, monkeypatch):
    assert set(run(images="clips/two/../one", masks="mask.png")) == {"one"}
    monkeypatch.chdir(here / "clips/one")
    assert set(run(images=".", masks="../../mask.png", results="../../out2")) == {"one"}
    monkeypatch.chdir(here / "clips/one")
    assert set(run(images="../two/../one", masks="../../mask.png", results="../../out3")) == {"one"}


def test_a_picture_of_results_may_not_be_the_mask_to_begin_with(run, here):
    run(images="clips/one", masks="mask.png")
    mask = (here / "out/one/00000.png").read_bytes()
    with pytest.raises(UserError, match=r"would replace out/one/00000\.png, which is read"):
        run("overwrite=true", images="clips/one", masks="out/one/00000.png")
    assert (here / "out/one/00000.png").read_bytes() == mask


def test_overwrite_takes_away_sequences_that_are_gone(run, here):
    run()
    (here / "out/mine.png").write_bytes((here / "mask.png").read_bytes())
    shutil.rmtree(here / "clips/one")
    run("overwrite=true")
    names = {path.name for path in (here / "out").iterdir()}
    assert not {name for name in names if name.startswith("one")}
    assert {"two", "mine.png"} <= names


@pytest.mark.parametrize("where", [1, 4, 7, 9])
def test_a_kill_leaves_a_folder_that_the_same_command_finishes(run, here, where, monkeypatch):
    monkeypatch.setattr(unfinished, "SECONDS", 0)
    monkeypatch.setattr(unfinished, "SHARE", 0)
    run(results="whole")
    child = os.fork()
    if not child:
        replace, count = os.replace, [0]

        def killed(source, target):
            count[0] += str(target).endswith((".png", ".json")) and "out" in str(target)
            if count[0] > where:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(source, target)

        os.replace = killed
        run()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    finished = again(run)
    assert finished == ({"one"} if where >= 7 else set())
    assert content(here / "out") == content(here / "whole")


def test_a_full_disk_is_one_sentence_and_going_on_finishes(run, here, monkeypatch):
    run(results="whole")
    fsync, count = os.fsync, [0]

    def full(number):
        count[0] += 1
        if count[0] > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(writing.os, "fsync", full)
        with pytest.raises(UserError, match=r"out/.*\.png cannot be written .*: make room on its disk"):
            run()
    again(run)
    assert content(here / "out") == content(here / "whole")


@pytest.mark.parametrize("later", [False, True])
def test_later_masks_are_said_to_score_only(run, here, capsys, later):
    if later:
        write_mask(here / "masks/one/00001.png")
    run()
    said = [line for line in capsys.readouterr().out.splitlines() if "correct nothing" in line]
    assert len(said) == later
    assert not later or said[0].endswith("correct nothing: masks/one/00001.png")


def test_names_in_brackets_are_shown(run, here, capsys):
    (here / "clips/one").rename(here / "clips/[bold]one")
    (here / "masks/one").rename(here / "masks/[bold]one")
    run(results="'out [x]'")
    out = capsys.readouterr().out
    assert out.count("[bold]one") == 2
    assert "Masks and tables: out [x]" in out
