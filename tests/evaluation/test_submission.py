"""The zip for an evaluation server, from made data sets in the official layouts, with their traps."""

import io
import json
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from helpers import LIGHT, prepared
from PIL import Image

from eosvos.errors import UserError
from eosvos.evaluation import scoring
from eosvos.evaluation.evaluate import evaluate
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.submission import write_submission

NETS = (LIGHT, "backbone=tiny", "backbone.width=8", "backbone.fpn_channels=16", "trainer=cpu", "logger=csv")
STEPS = ("finetune=quick", "finetune.steps=1", "finetune.augment=false", "finetune.batch_size=1")
EVERY_FIFTH = [f"{t:05d}" for t in range(0, 11, 5)]


def boxes(ids, size):
    """A row of boxes of 4x4 pixels, one an object, on a grid."""
    labels = np.zeros(size, np.uint8)
    for place, object_id in enumerate(ids):
        top, left = divmod(place * 6, size[1] - 6)
        labels[6 * top : 6 * top + 4, left : left + 4] = object_id
    return labels


VIDEOS = {
    # name: size of the frames, and the ids of the objects that each mask shows
    "late": ((32, 48), {"00000": [1], "00005": [9], "00010": [4]}),
    "crowd": ((40, 64), {"00000": range(2, 48, 2)}),
    "gone": ((48, 32), {"00000": [1, 5], "00005": [5]}),
}
"""Objects that appear late, one of them in the last frame; many, without some ids; one that vanishes."""


@pytest.fixture
def youtube(disk):
    """The splits valid and valid_all_frames, the latter without masks and meta.json, as published."""
    videos = {}
    for name, (size, shown) in VIDEOS.items():
        for split, frames in (
            ("valid", EVERY_FIFTH),
            ("valid_all_frames", [f"{t:05d}" for t in range(11)]),
        ):
            for frame in frames:
                disk.frame(f"{split}/JPEGImages/{name}/{frame}.jpg", size, 20 * int(frame))
        for frame, ids in shown.items():
            mode = "L" if frame == "00005" else "P"
            disk.mask(f"valid/Annotations/{name}/{frame}.png", boxes(ids, size), mode)
        # An id that no mask shows is listed for every video.
        listed = {str(i) for ids in shown.values() for i in ids} | {"50"}
        videos[name] = {"objects": {i: {"frames": EVERY_FIFTH} for i in sorted(listed)}}
    disk.text("valid/meta.json", json.dumps({"videos": videos}))
    return disk


@pytest.fixture
def davis_test(disk):
    """DAVIS 2017 test-dev: two videos with first masks alone."""
    for name, size in (("aerobatics", (32, 48)), ("carousel", (48, 32))):
        for t in range(3):
            disk.frame(f"JPEGImages/480p/{name}/{t:05d}.jpg", size, 40 * t)
        disk.mask(f"Annotations/480p/{name}/00000.png", boxes([1, 2], size))
    disk.text("ImageSets/2017/test-dev.txt", "aerobatics\ncarousel\n")
    return disk


def youtube_vos(split="valid_all_frames"):
    return "dataset=youtube_vos", f"dataset.test.split={split}", "dataset.test.part=null"


TEST_DEV = ("dataset=davis2017", "dataset.test.split=test-dev")


def command(disk, *overrides):
    where = f"dataset.root={disk.root}", f"results={disk.root}/out"
    return prepared(*NETS, *STEPS, *where, *overrides, entry="evaluate", output=disk.root / "run")


def run(disk, *overrides):
    """Evaluate as the command line does: the records by name."""
    return {record.sequence: record for record in evaluate(*command(disk, *overrides))[0].records}


def masks_in(path):
    """The pictures of a zip, decoded, by name."""
    with ZipFile(path) as archive:
        return {name: Image.open(io.BytesIO(archive.read(name))) for name in archive.namelist()}


def zip_of(disk, split="valid_all_frames"):
    return disk.root / f"out/submission-{split}.zip"


@pytest.mark.parametrize("split", ["valid", "valid_all_frames"])
def test_the_zip_for_youtube_vos_has_the_frames_of_valid(youtube, capsys, split):
    records = run(youtube, *youtube_vos(split), "submission=true")
    assert {record.num_frames for record in records.values()} == {11 if split.endswith("frames") else 3}
    assert f"For the evaluation server: {zip_of(youtube, split)}" in capsys.readouterr().out
    masks = masks_in(zip_of(youtube, split))
    assert set(masks) == {f"Annotations/{name}/{frame}.png" for name in VIDEOS for frame in EVERY_FIFTH}
    for name, (size, shown) in VIDEOS.items():
        in_folder = sorted(path.name for path in (youtube.root / "out" / name).iterdir())
        assert in_folder == [f"{frame}.png" for frame in EVERY_FIFTH]
        seen = set()
        for frame in EVERY_FIFTH:
            mask = masks[f"Annotations/{name}/{frame}.png"]
            assert (mask.mode, mask.size) == ("P", size[::-1])
            labels, given = np.asarray(mask), boxes(shown.get(frame, []), size)
            new = set(shown.get(frame, [])) - seen
            for object_id in new:
                assert (labels[given == object_id] == object_id).all()
            seen |= new
            assert set(np.unique(labels)) <= {0, *seen}


def test_the_zip_for_davis_has_the_folders_of_the_videos_at_its_top(davis_test):
    run(davis_test, *TEST_DEV, "submission=true")
    masks = masks_in(zip_of(davis_test, "test-dev"))
    videos = ("aerobatics", "carousel")
    assert set(masks) == {f"{name}/{t:05d}.png" for name in videos for t in range(3)}
    assert masks["aerobatics/00002.png"].size == (48, 32)
    assert {mask.mode for mask in masks.values()} == {"P"}


def test_the_zip_comes_when_all_is_finished_and_goes_when_something_is_done_again(youtube, monkeypatch):
    score, zipped = scoring.score_sequence, zip_of(youtube)

    def interrupted(predictor, sequence, *others):
        if sequence.name == "gone":
            raise UserError("stopped")
        return score(predictor, sequence, *others)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "score_sequence", interrupted)
        with pytest.raises(UserError, match="stopped"):
            run(youtube, *youtube_vos(), "submission=true")
    assert not zipped.exists()
    records = run(youtube, *youtube_vos(), "submission=true")
    assert [name for name, record in records.items() if record.finished_before] == ["crowd"]
    first = {name: mask.tobytes() for name, mask in masks_in(zipped).items()}

    zipped.unlink()
    records = run(youtube, *youtube_vos(), "submission=true")
    assert all(record.finished_before for record in records.values())
    assert {name: mask.tobytes() for name, mask in masks_in(zipped).items()} == first

    youtube.frame("valid_all_frames/JPEGImages/late/00001.jpg", (32, 48), 7)
    run(youtube, *youtube_vos())
    assert not zipped.exists()


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (TEST_DEV, "dataset.test.sequences=[carousel]"),
        (TEST_DEV, "dataset.test.short_side=16"),
        (("dataset=davis2017", "dataset.test.split=null"), ""),
        (("dataset=davis2016", "dataset.test.split=null"), ""),
        (("dataset=synthetic", "dataset.test.num_videos=1"), ""),
    ],
)
def test_what_no_server_takes_is_refused_before_work(davis_test, settings, keys):
    data = () if "dataset=synthetic" in settings else (f"dataset.root={davis_test.root}",)
    asked = (*NETS, *settings, *data, *filter(None, [keys]))
    with pytest.raises(UserError, match="submission=true: no evaluation server takes masks of these"):
        prepared(*asked, "submission=true", entry="evaluate", output=davis_test.root / "run")
    assert prepared(*asked, entry="evaluate", output=davis_test.root / "run")


def test_training_has_nothing_to_submit():
    for key in ("submission=true", "evaluator=davis2017"):
        with pytest.raises(UserError, match=f"{key} is for evaluate.py: leave it out"):
            prepared(key)


@pytest.fixture
def finished(two_squares, tmp_path):
    """A results folder with the masks of a video, and the zip of them."""
    two_squares.server_folder = "Annotations/squares"
    folder = ResultsFolder(tmp_path / "out", "valid")
    for name, labels in zip(two_squares.frame_names, two_squares.masks, strict=True):
        folder.write_frame("squares", name, torch.from_numpy(labels))
    write_submission(folder, [two_squares])
    return folder


def grey(path):
    Image.open(path).convert("L").save(path)


def small(path):
    Image.open(path).resize((30, 20)).save(path)


def foreign(path):
    image = Image.open(path)
    image.putpixel((0, 0), 3)
    image.save(path)


def ignored(path):
    image = Image.open(path)
    image.putpixel((0, 0), 255)
    image.save(path)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-60])


def missing(path):
    path.unlink()


@pytest.mark.parametrize("harm", [grey, small, foreign, ignored, cut_off, missing])
def test_a_mask_that_a_server_would_refuse_gives_no_zip(finished, two_squares, harm):
    before = finished.submission.read_bytes()
    harm(finished.root / "squares/00003.png")
    with pytest.raises(UserError, match=r"squares/00003\.png (is|cannot)"):
        write_submission(finished, [two_squares])
    assert finished.submission.read_bytes() == before
    assert not list(finished.root.glob(".*"))


def test_a_zip_of_someone_else_is_not_replaced(youtube):
    path = zip_of(youtube)
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"submission-valid_all_frames\.zip, which eosvos did not write"):
        command(youtube, *youtube_vos(), "submission=true")
    assert path.read_bytes() == b"mine"


def test_overwrite_takes_the_zip_away(davis_test):
    run(davis_test, *TEST_DEV, "submission=true")
    run(davis_test, *TEST_DEV, "overwrite=true")
    assert not zip_of(davis_test, "test-dev").exists()


def test_results_do_not_go_among_the_frames_that_the_server_wants(youtube):
    where = f"results={youtube.root}/valid/JPEGImages"
    with pytest.raises(UserError, match=r"would write into .*valid/JPEGImages/crowd, which is read from"):
        command(youtube, *youtube_vos(), where)
