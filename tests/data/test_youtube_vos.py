import json
from collections import Counter

import pytest

from eosvos.data.youtube_vos import youtube_vos_sequences
from eosvos.errors import UserError


def write(disk, labels, split, objects_of, frames=("00000", "00005")):
    videos = {}
    for name, objects in objects_of.items():
        for frame in frames:
            disk.frame(f"{split}/JPEGImages/{name}/{frame}.jpg")
        for frame, object_id in zip(frames, objects, strict=False):
            disk.mask(f"{split}/Annotations/{name}/{frame}.png", labels(object_id))
        things = {str(i): {"category": category, "frames": list(frames)} for i, category in objects.items()}
        videos[name] = {"objects": things}
    disk.text(f"{split}/meta.json", json.dumps({"videos": videos}))


@pytest.fixture
def train(disk, labels):
    names = [f"v{i:02d}" for i in range(24)]
    write(disk, labels, "train", {name: {1: "cat" if i % 3 else "dog"} for i, name in enumerate(names)})
    return disk


def test_objects_and_categories_come_from_meta(disk, labels):
    write(disk, labels, "train", {"zoo": {2: "ape", 7: "elephant"}})
    (zoo,) = youtube_vos_sequences(disk.root)
    assert (zoo.object_ids, zoo.categories) == ((2, 7), {2: "ape", 7: "elephant"})
    assert (zoo.frame_names, zoo.first_frame(7)) == (("00000", "00005"), 1)


def test_valid_has_masks_only_where_objects_appear(disk, labels):
    write(disk, labels, "valid", {"zoo": {1: "ape"}}, frames=("00000", "00005", "00010"))
    (zoo,) = youtube_vos_sequences(disk.root, "valid")
    assert (zoo.num_frames, zoo.annotated_frames) == (3, (0,))


def test_parts_cover_the_split_do_not_meet_and_have_its_share_of_categories(train):
    held = youtube_vos_sequences(train.root, part="held_out", held_out=6)
    fit = youtube_vos_sequences(train.root, part="fit", held_out=6)
    assert {s.name for s in held} | {s.name for s in fit} == {f"v{i:02d}" for i in range(24)}
    assert (len(held), len(fit)) == (6, 18)
    assert Counter(s.categories[1] for s in held) == {"cat": 4, "dog": 2}


def test_parts_follow_from_the_seed(train):
    def names(seed):
        return [s.name for s in youtube_vos_sequences(train.root, part="held_out", held_out=6, seed=seed)]

    assert names(0) == names(0)
    assert len({tuple(names(seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "nowhere"}, r"set dataset\.root"),
        ({"split": "tain"}, "did you mean train"),
        ({"part": "held-out"}, "did you mean held_out"),
        ({"part": "fit", "held_out": 24}, "held_out=24 of 24 videos"),
        ({"sequences": ["v99"]}, "'v99' is not in split train"),
    ],
)
def test_wrong_settings_are_named_with_a_mend(train, arguments, message):
    with pytest.raises(UserError, match=message):
        youtube_vos_sequences(**{"root": train.root, **arguments})


def test_broken_meta_and_missing_files_are_named(train):
    (train.root / "train/JPEGImages/v03/00000.jpg").unlink()
    with pytest.raises(UserError, match=r"v03/00000\.jpg is missing"):
        youtube_vos_sequences(train.root)
    train.text("train/meta.json", "{")
    with pytest.raises(UserError, match=r"meta\.json cannot be read"):
        youtube_vos_sequences(train.root)
