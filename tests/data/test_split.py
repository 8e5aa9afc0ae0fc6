import json
from collections import Counter

import pytest

from eosvos.config.data import Folder, Images, YouTubeVOS
from eosvos.data.__main__ import main
from eosvos.data.folder import folder_sequences
from eosvos.data.split_file import divide, read_split, write_split
from eosvos.data.stills import image_stills
from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError


@pytest.fixture
def videos(disk, labels):
    """Twelve videos below one root: ten lone ones, and two clips of one."""
    for name in [*(f"v{letter}" for letter in "abcdefghij"), "park_0", "park_1"]:
        for t in range(2):
            disk.frame(f"JPEGImages/{name}/{t}.jpg")
            disk.mask(f"Annotations/{name}/{t}.png", labels(1))
    return disk


def split(disk, *arguments, file="split.json"):
    data = ("dataset=folder", f"dataset.root={disk.root}", f"dataset.split_file={disk.root / file}")
    return main(["split", *data, *arguments])


def names(disk, part, file="split.json"):
    folder = Folder(root=str(disk.root), split_file=str(disk.root / file), split_part=part)
    return [video.name for video in folder_sequences(folder)]


def test_a_split_is_written_once_and_read_by_every_part(videos, capsys):
    assert split(videos, "--val", "0.25", "--test", "2") == 0
    assert "7 train, 3 val, 2 test" in capsys.readouterr().out
    parts = {part: names(videos, part) for part in ("train", "val", "test")}
    assert {part: len(found) for part, found in parts.items()} == {"train": 7, "val": 3, "test": 2}
    assert len({name for found in parts.values() for name in found}) == 12
    assert split(videos) == 2
    assert "split.json is there already" in capsys.readouterr().err


def test_a_lot_of_the_experiment_leaves_no_video_out(videos, capsys):
    assert split(videos, "experiment=domain", "--val", "0.25", "--test", "2") == 0
    assert "7 train, 3 val, 2 test" in capsys.readouterr().out


def test_one_of_several_data_sets_is_divided(videos, capsys):
    mixture = ("dataset=mixture", "+dataset@dataset.ours=folder", "+dataset@dataset.made=procedural")
    ours = (f"dataset.ours.root={videos.root}", f"dataset.ours.split_file={videos.root / 'split.json'}")
    assert main(["split", *mixture, *ours, "--val", "0.25", "--test", "2"]) == 0
    assert "7 train, 3 val, 2 test" in capsys.readouterr().out
    assert len(names(videos, "val")) == 3


def test_the_same_seed_gives_the_same_split_and_another_another(videos):
    for file, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert split(videos, "--seed", seed, file=f"{file}.json") == 0
    a, b, c = (read_split(videos.root / f"{file}.json") for file in "abc")
    assert a == b != c


def test_clips_of_one_video_stay_together_unless_told_otherwise():
    clips = {f"{name}_{i}": "" for name in "abcdefgh" for i in range(3)}

    def sides(seed, together):
        parts = divide(clips, 0.25, 0.25, seed, together)
        return Counter(len({name[0] for name in part}) for part in parts.values()), parts

    for seed in range(5):
        _, parts = sides(seed, True)
        assert {part: len(found) for part, found in parts.items()} == {"train": 12, "val": 6, "test": 6}
        of = [{name[0] for name in found} for found in parts.values()]
        assert not of[0] & of[1] | of[0] & of[2] | of[1] & of[2]
    apart = [{name[0] for name in found} for found in sides(0, False)[1].values()]
    assert apart[0] & apart[1]


def test_parts_have_the_same_share_of_each_category():
    categories = {f"v{i:03d}": "cat" if i % 4 else "dog" for i in range(80)}
    parts = divide(categories, 8, 0.1, 0, False)
    for part in ("val", "test"):
        assert Counter(categories[name] for name in parts[part]) == {"cat": 6, "dog": 2}


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [(12, 0, "nothing is left for train"), (1, 0, "nothing is left for val of 12 .* numbers$")],
)
def test_impossible_numbers_are_refused(val, test, message):
    with pytest.raises(UserError, match=message):
        divide({f"clip_{i}": "" for i in range(12)}, val, test, 0, val == 1)


def test_the_hold_out_of_youtube_vos_is_balanced_and_takes_the_place_of_part(disk, labels):
    meta = {}
    for i in range(16):
        name = f"v{i:02d}"
        disk.frame(f"train/JPEGImages/{name}/00000.jpg")
        disk.mask(f"train/Annotations/{name}/00000.png", labels(1))
        category = "cat" if i % 2 else "dog"
        meta[name] = {"objects": {"1": {"category": category, "frames": ["00000"]}}}
    disk.text("train/meta.json", json.dumps({"videos": meta}))
    file = disk.root / "held.json"
    data = ("dataset=youtube_vos", f"dataset.root={disk.root}", f"dataset.split_file={file}")
    assert main(["split", *data, "dataset.held_out=1", "--val", "4", "--test", "0"]) == 0
    settings = {"root": str(disk.root), "split_file": str(file), "part": "held_out"}
    val = youtube_vos_sequences(YouTubeVOS(**settings, split_part="val"))
    train = youtube_vos_sequences(YouTubeVOS(**settings, split_part="train"))
    assert Counter(video.categories[1] for video in val) == {"cat": 2, "dog": 2}
    assert len(train) == 12


def test_pictures_can_be_divided_too_and_their_numbers_are_no_clips(disk, labels):
    for i in range(8):
        disk.frame(f"images/2007_{i}.jpg")
        disk.mask(f"masks/2007_{i}.png", labels(1))
    file = disk.root / "split.json"
    data = ("dataset=images", f"dataset.root={disk.root}", f"dataset.split_file={file}")
    assert main(["split", *data, "--val", "2", "--test", "0"]) == 0
    images = Images(root=str(disk.root), split_file=str(file))
    assert len(image_stills(images)) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"s\.json is no split"),
        ('{"train": []}', r"s\.json is no split .*val"),
        ('{"train": [1], "val": [], "test": []}', r"s\.json is no split, lists of names"),
        ('{"train": ["vz"], "val": [], "test": []}', r"s\.json is of other data: sequence 'vz' is not in"),
    ],
)
def test_files_that_are_no_split_are_named(videos, content, message):
    videos.text("s.json", content)
    with pytest.raises(UserError, match=message):
        names(videos, "train", "s.json")


def test_an_empty_part_is_named(videos):
    file = videos.root / "none.json"
    write_split(file, {"train": ["car"], "val": [], "test": []}, {})
    with pytest.raises(UserError, match=r"^val of .*none.json names no sequence: add some, or set val of"):
        names(videos, "val", "none.json")


def test_the_command_names_what_it_lacks(videos, capsys):
    assert main(["split", "dataset=folder", f"dataset.root={videos.root}"]) == 2
    assert "dataset.split_file=FILE" in capsys.readouterr().err
    assert main(["split", "dataset=synthetic"]) == 2
    assert "it has to lie in files" in capsys.readouterr().err
    assert split(videos, "--val", "12") == 2
    assert "nothing is left for train" in (said := capsys.readouterr().err)
    assert "(--clips-apart)" in said
    assert main(["split", "dataset=floder"]) == 2
    assert "folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["split", "dataset=folder", "--val", "1.5"])


def test_a_root_is_needed_or_images_and_masks(videos):
    with pytest.raises(ValueError, match="it needs images and masks, or root"):
        Folder(images="x")
    by_root = folder_sequences(Folder(root=str(videos.root)))
    places = {"images": str(videos.root / "JPEGImages"), "masks": str(videos.root / "Annotations")}
    assert [v.name for v in by_root] == [v.name for v in folder_sequences(Folder(**places))]
