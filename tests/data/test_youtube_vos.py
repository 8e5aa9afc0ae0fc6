import json
import shutil
from collections import Counter

import pytest

from eosvos.config.data import YouTubeVOS
from eosvos.data.task_source import list_objects
from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError


def open_youtube_vos(root, **settings):
    return youtube_vos_sequences(YouTubeVOS(root=str(root), **settings))


def write(disk, labels, split, objects_of, frames=("00000", "00005")):
    videos = {}
    for name, objects in objects_of.items():
        for frame in frames:
            disk.frame(f"{split}/JPEGImages/{name}/{frame}.jpg")
        for frame, object_id in zip(frames, objects, strict=False):
            disk.mask(f"{split}/Annotations/{name}/{frame}.png", labels(object_id))
        shown = [*frames[: len(objects)]]
        things = {str(i): {"category": category, "frames": shown} for i, category in objects.items()}
        videos[name] = {"objects": things}
    disk.text(f"{split}/meta.json", json.dumps({"videos": videos}))


@pytest.fixture
def train(disk, labels):
    names = [f"v{i:02d}" for i in range(24)]
    write(disk, labels, "train", {name: {1: "cat" if i % 3 else "dog"} for i, name in enumerate(names)})
    return disk


def test_objects_and_categories_come_from_meta(disk, labels):
    write(disk, labels, "train", {"zoo": {2: "ape", 7: "elephant"}})
    (zoo,) = open_youtube_vos(disk.root)
    assert (zoo.object_ids, zoo.categories) == ((2, 7), {2: "ape", 7: "elephant"})
    assert (zoo.frame_names, zoo.first_frame(7)) == (("00000", "00005"), 1)


def test_objects_that_no_mask_shows_are_left_out_but_listed_without_reading(disk, labels):
    write(disk, labels, "train", {"zoo": {2: "ape", 7: "elephant"}})
    mask = disk.mask("train/Annotations/zoo/00005.png", labels(2))
    (zoo,) = open_youtube_vos(disk.root)
    assert zoo.object_ids == (2,)
    with pytest.raises(UserError, match="no mask of sequence zoo shows object 7"):
        zoo.first_frame(7)
    mask.write_bytes(b"")
    (zoo,) = open_youtube_vos(disk.root)
    assert [i for _, i in list_objects([zoo])] == [2, 7]


@pytest.mark.parametrize(("objects", "listed"), [({}, "none"), ({1: "cat"}, "1")])
def test_a_video_that_shows_no_object_of_the_list_is_named_at_the_start(disk, labels, objects, listed):
    write(disk, labels, "train", {"zoo": {2: "ape"}})
    meta = disk.root / "train/meta.json"
    things = {str(i): {"category": one, "frames": ["00000"]} for i, one in objects.items()}
    meta.write_text(json.dumps({"videos": {"zoo": {"objects": things}}}))
    with pytest.raises(
        UserError, match=rf"no mask of sequence zoo shows an object \(meta.json lists {listed}\)"
    ):
        open_youtube_vos(disk.root)


def test_objects_that_vanish_when_reduced_are_left_out(disk, labels):
    write(disk, labels, "train", {"zoo": {2: "ape", 7: "elephant"}})
    dot = labels(0)
    dot[4, 4] = 7
    disk.mask("train/Annotations/zoo/00005.png", dot)
    (zoo,) = open_youtube_vos(disk.root, short_side=16)
    assert zoo.object_ids == (2,)


@pytest.mark.parametrize("file", ["JPEGImages/zoo/00010.jpg", "Annotations/zoo/00010.png"])
def test_a_frame_or_mask_that_meta_names_must_exist(disk, labels, file):
    write(disk, labels, "train", {"zoo": {1: "ape", 2: "ape", 3: "ape"}}, ("00000", "00005", "00010"))
    assert len(open_youtube_vos(disk.root)) == 1
    (disk.root / "train" / file).unlink()
    with pytest.raises(UserError, match=f"{file} is missing"):
        open_youtube_vos(disk.root)


def test_listing_opens_no_image(train):
    for path in [*train.root.rglob("*.jpg"), *train.root.rglob("*.png")]:
        path.write_bytes(b"")
    assert len(youtube_vos_sequences(YouTubeVOS(root=str(train.root)), {})) == 24


def test_only_train_has_parts(disk, labels):
    write(disk, labels, "valid", {"zoo": {1: "ape"}, "sea": {1: "fish"}})
    with pytest.raises(UserError, match=r"part=held_out .* valid has none: leave part out"):
        open_youtube_vos(disk.root, split="valid", part="held_out", held_out=1)


def test_valid_has_masks_only_where_objects_appear(disk, labels):
    write(disk, labels, "valid", {"zoo": {1: "ape"}}, frames=("00000", "00005", "00010"))
    (zoo,) = open_youtube_vos(disk.root, split="valid")
    assert (zoo.num_frames, zoo.annotated_frames) == (3, (0,))


@pytest.fixture
def valid(disk, labels):
    """Every fifth frame of a video in split valid, and all of them, without masks, in valid_all_frames."""
    every_fifth = ("00000", "00005", "00010")
    write(disk, labels, "valid", {"zoo": {1: "ape", 4: "ape"}}, every_fifth)
    for t in range(12):
        disk.frame(f"valid_all_frames/JPEGImages/zoo/{t:05d}.jpg")
    return disk


def test_all_frames_go_with_the_masks_of_the_split_that_they_belong_to(valid):
    (zoo,) = open_youtube_vos(valid.root, split="valid_all_frames")
    assert (zoo.num_frames, zoo.annotated_frames, zoo.first_frame(4)) == (12, (0, 5), 5)
    assert zoo.frames[5] == valid.root / "valid_all_frames/JPEGImages/zoo/00005.jpg"
    assert zoo.masks[5] == valid.root / "valid/Annotations/zoo/00005.png"
    assert zoo.result_names == ("00000", "00005", "00010")
    (fifth,) = open_youtube_vos(valid.root, split="valid")
    assert fifth.result_names == fifth.frame_names == zoo.result_names
    assert zoo.server_folder == fifth.server_folder == "Annotations/zoo"
    valid.frame("valid/JPEGImages/zoo/00011.jpg")
    (more,) = open_youtube_vos(valid.root, split="valid_all_frames")
    assert more.fingerprint() != zoo.fingerprint()


@pytest.mark.parametrize(
    ("part", "folder"),
    [("valid", "JPEGImages"), ("valid", "Annotations"), ("valid_all_frames", "JPEGImages")],
)
def test_all_frames_need_every_folder_of_both_splits(valid, part, folder):
    shutil.rmtree(valid.root / part / folder / "zoo")
    with pytest.raises(UserError, match=rf"{part}/{folder}/zoo does not exist: .*valid/meta\.json lists it"):
        open_youtube_vos(valid.root, split="valid_all_frames")
    shutil.rmtree(valid.root / "valid")
    with pytest.raises(UserError, match="valid does not exist: put it there, for valid_all_frames has its"):
        open_youtube_vos(valid.root, split="valid_all_frames")


@pytest.mark.parametrize("split", ["valid", "valid_all_frames"])
def test_a_frame_that_the_server_wants_must_exist(valid, split):
    meta = json.loads((valid.root / "valid/meta.json").read_text())
    meta["videos"]["zoo"]["objects"]["1"]["frames"].append("00015")
    valid.text("valid/meta.json", json.dumps(meta))
    with pytest.raises(UserError, match=rf"{split}/JPEGImages/zoo/00015\.jpg is missing"):
        open_youtube_vos(valid.root, split=split)


def test_all_frames_of_train_have_its_masks(disk, labels):
    write(disk, labels, "train", {"zoo": {2: "ape", 7: "elephant"}})
    for t in range(6):
        disk.frame(f"train_all_frames/JPEGImages/zoo/{t:05d}.jpg")
    (zoo,) = open_youtube_vos(disk.root, split="train_all_frames")
    assert (zoo.num_frames, zoo.annotated_frames, zoo.object_ids) == (6, (0, 5), (2, 7))
    assert zoo.server_folder is None
    (disk.root / "train/Annotations/zoo/00005.png").unlink()
    with pytest.raises(UserError, match=r"train/Annotations/zoo/00005\.png is missing"):
        open_youtube_vos(disk.root, split="train_all_frames")


def test_parts_cover_the_split_do_not_meet_and_have_its_share_of_categories(train):
    held = open_youtube_vos(train.root, part="held_out", held_out=6)
    fit = open_youtube_vos(train.root, part="fit", held_out=6)
    assert {s.name for s in held} | {s.name for s in fit} == {f"v{i:02d}" for i in range(24)}
    assert (len(held), len(fit)) == (6, 18)
    assert Counter(s.categories[1] for s in held) == {"cat": 4, "dog": 2}


def test_parts_follow_from_the_seed(train):
    def names(seed):
        return [s.name for s in open_youtube_vos(train.root, part="held_out", held_out=6, seed=seed)]

    assert names(0) == names(0)
    assert len({tuple(names(seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "nowhere"}, r"set root"),
        ({"split": "tain"}, "did you mean train"),
        ({"part": "fit", "held_out": 24}, "held_out=24 of 24 videos"),
        ({"part": "held_out", "held_out": 24}, "held_out=24 of 24 videos"),
        ({"sequences": ["v99"]}, "'v99' is not in split train"),
        ({"part": "fit", "held_out": 23, "sequences": ["v00", "v01"]}, "not in .* part fit with held_out=23"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(train, arguments, message):
    with pytest.raises(UserError, match=message):
        open_youtube_vos(**{"root": train.root, **arguments})


def test_a_listed_video_that_is_not_there_is_named_with_its_list(train):
    shutil.rmtree(train.root / "train/Annotations/v03")
    with pytest.raises(UserError, match=r"Annotations/v03 does not exist: .*train/meta\.json lists it"):
        open_youtube_vos(train.root)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({}, "names no video"),
        ({"zoo": {"objects": {"0": {}}}}, r"object 0 is not in 1 \.\. 254"),
        ({"zoo": {"objects": {"1": {"frames": [5]}}}}, "frame 5 is not the name"),
        ({"zoo": []}, "cannot be read as a list"),
    ],
)
def test_lists_that_make_no_sense_are_named(disk, objects, message):
    (disk.root / "train").mkdir()
    disk.text("train/meta.json", "\ufeff" + json.dumps({"videos": objects}))
    with pytest.raises(UserError, match=rf"meta\.json .*{message}"):
        open_youtube_vos(disk.root)


def test_broken_meta_and_missing_files_are_named(train):
    (train.root / "train/JPEGImages/v03/00000.jpg").unlink()
    with pytest.raises(UserError, match=r"v03/00000\.jpg is missing"):
        open_youtube_vos(train.root)
    train.text("train/meta.json", "{")
    with pytest.raises(UserError, match=r"meta\.json cannot be read"):
        open_youtube_vos(train.root)
