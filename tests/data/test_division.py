"""Folders that are divided into train, val and test: several videos by lot, one in time."""

import numpy as np
import pytest

from eosvos.config.data import PARTS, Folder
from eosvos.data.folder import division, folder_sequences
from eosvos.data.split_file import divide_in_time, write_split
from eosvos.errors import UserError

SHARES = [0.2, 0.2]


def frames(disk, labels, video, masks, mode="P", value=1, count=20):
    for t in range(count):
        disk.frame(f"JPEGImages/{video}/{t:05d}.jpg")
    for t in masks:
        disk.mask(f"Annotations/{video}/{t:05d}.png", labels(value), mode)


def part(disk, name, **settings):
    given = {"root": str(disk.root), "divide": SHARES, **settings}
    return folder_sequences(Folder(**given, split_part=name))


def one_video(disk):
    """The settings for a folder of frames alone."""
    return {"images": str(disk.root / "JPEGImages/clip"), "masks": str(disk.root / "Annotations/clip")}


@pytest.fixture
def several(disk, labels):
    """Ten videos, of which some have palette masks and some grey ones, for a few frames each."""
    for i in range(8):
        frames(disk, labels, f"v{i}", (0, 2), *(("P", 3) if i % 2 else ("L", 255)), count=4)
    for i in range(2):
        frames(disk, labels, f"patient_{i}", (1, 3), count=4)
    return disk


def test_every_video_is_in_one_part_and_clips_of_one_stay_together(several):
    names = {name: [video.name for video in part(several, name)] for name in PARTS}
    assert {name: len(found) for name, found in names.items()} == {"train": 6, "val": 2, "test": 2}
    assert len({name for found in names.values() for name in found}) == 10
    assert len([found for found in names.values() if {"patient_0", "patient_1"} & {*found}]) == 1
    assert names == division(Folder(root=str(several.root), divide=SHARES))


def test_names_are_chosen_within_a_part_which_stays_as_it_is(several):
    tested, trained = part(several, "test")[0].name, part(several, "train")[0].name
    assert [video.name for video in part(several, "test", sequences=[tested])] == [tested]
    both = {"sequences": [tested, trained]}
    assert [video.name for video in part(several, "test", **both)] == [tested]
    assert [video.name for video in part(several, "train", **both)] == [trained]
    with pytest.raises(UserError, match=f"no video of test as .* is divided, which has .*{tested}"):
        part(several, "test", sequences=[trained])
    with pytest.raises(UserError, match="'nobody' is not in"):
        part(several, "test", sequences=["nobody"])


def test_the_seed_fixes_the_lot(several):
    drawn = [[video.name for video in part(several, "test", divide_seed=seed)] for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len({*map(tuple, drawn)}) > 1


def test_a_split_file_takes_its_place(several):
    file = several.root / "split.json"
    write_split(file, {"train": ["v3"], "val": ["v4"], "test": ["v5", "patient_0"]}, {})
    names = [video.name for video in part(several, "test", split_file=str(file))]
    assert names == ["v5", "patient_0"]


def test_palette_and_grey_masks_keep_their_objects(several):
    for name in PARTS:
        for video in part(several, name):
            grey = video.name.startswith("v") and int(video.name[1]) % 2 == 0
            assert video.object_ids == ((1,) if grey or video.name.startswith("patient") else (3,))


def test_one_video_is_divided_by_its_masks(disk, labels):
    masks = (2, 4, 6, 8, 9, 10, 12, 14, 15, 18)
    frames(disk, labels, "clip", masks)
    parts = {name: part(disk, name)[0] for name in PARTS}
    ends = [(video.frame_names[0], video.frame_names[-1]) for video in parts.values()]
    assert ends == [("00000", "00008"), ("00009", "00013"), ("00014", "00019")]
    numbers = [[int(video.frame_names[t]) for t in video.annotated_frames] for video in parts.values()]
    assert numbers == [[2, 4, 6, 8], [9, 10, 12], [14, 15, 18]]
    # A folder of frames alone is the same.
    [alone] = part(disk, "test", **one_video(disk))
    assert (alone.frame_names, alone.annotated_frames) == (
        parts["test"].frame_names,
        parts["test"].annotated_frames,
    )
    assert len({video.fingerprint() for video in parts.values()}) == 3


def test_white_is_the_object_in_every_part_if_it_is_in_the_first_mask(disk, labels):
    frames(disk, labels, "clip", range(8), "L", 255)
    both = labels(255)
    both[0, :4] = 7
    disk.mask("Annotations/clip/00005.png", both, "L")
    for name in PARTS:
        [video] = part(disk, name)
        assert 1 in video.object_ids
        assert not (video.mask(0) == 255).any()


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (7, "the only video, clip, has masks for 7 frames, and 3 for val and 3 for test leave too few"),
        (0, "the only video, clip, has masks for 0 frames"),
    ],
)
def test_too_few_masks_for_a_division_in_time_are_named(disk, labels, count, message):
    frames(disk, labels, "clip", range(count))
    (disk.root / "Annotations/clip").mkdir(parents=True, exist_ok=True)
    with pytest.raises(UserError, match=message):
        part(disk, "train")


def test_too_few_videos_for_a_lot_are_named(disk, labels):
    for video in ("clip_0", "clip_1"):
        frames(disk, labels, video, (0, 1), count=3)
    with pytest.raises(UserError, match=r"nothing is left for .* of 2 videos, 1 if clips .*split_file"):
        part(disk, "train")


def test_a_mask_of_another_size_than_its_frame_is_named(several):
    several.mask("Annotations/v1/00002.png", np.ones((12, 32), np.uint8))
    with pytest.raises(UserError, match=r"v1/00002\.png is 32x12, but .*v1/00000\.jpg is 32x24"):
        [part(several, name) for name in PARTS]


def test_amounts_are_numbers_or_shares_of_masks():
    names = [str(t) for t in range(30)]
    parts = divide_in_time("x", names, names[::2], 4, 0.4)
    assert [len(parts[name]) for name in PARTS] == [10, 8, 12]
