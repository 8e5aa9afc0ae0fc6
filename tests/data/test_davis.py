import subprocess
import sys

import numpy as np
import pytest

from eosvos.config.data import Davis
from eosvos.data.davis import davis_sequences, davis_splits
from eosvos.errors import UserError


def open_davis(root, year="2017", **settings):
    return davis_sequences(Davis(root=str(root), year=year, **settings))


def test_2017_lists_ids_and_ignored_pixels(davis):
    (cat,) = open_davis(davis.root, split="train")
    assert (cat.name, cat.num_frames, cat.size) == ("cat", 4, (24, 32))
    assert cat.object_ids == (1, 2)
    assert cat.annotated_frames == (0, 1, 2, 3)
    assert cat.mask(2).unique().tolist() == [0, 1, 2, 255]
    assert cat.first_frame(2) == 0


def test_test_dev_has_the_first_mask_only(davis):
    (dog,) = open_davis(davis.root, split="test-dev")
    assert dog.num_frames == 4
    assert dog.annotated_frames == (0,)
    assert dog.mask(1) is None


def test_2016_merges_all_values_to_object_1_and_ignores_none(davis):
    (cat,) = open_davis(davis.root, "2016", sequences=["cat"])
    assert cat.object_ids == (1,)
    assert cat.mask(0).unique().tolist() == [0, 1]
    assert int(cat.mask(0).sum()) == 64 + 64 + 5


def test_2016_lists_name_the_frames(davis):
    lines = [f"/JPEGImages/480p/cat/{t:05d}.jpg /Annotations/480p/cat/{t:05d}.png \n" for t in range(3)]
    davis.text("ImageSets/480p/val.txt", "".join(lines))
    (cat,) = open_davis(davis.root, "2016", split="val")
    assert cat.frame_names == ("00000", "00001", "00002")


def test_without_a_split_all_sequences_on_disk(davis):
    assert [s.name for s in open_davis(davis.root)] == ["cat", "dog"]


def test_hidden_files_beside_the_lists_are_no_lists(davis):
    (davis.root / "ImageSets/2017/._train.txt").write_bytes(b"\x00\x05\x16\x07\xa3")
    assert davis_splits(Davis(root=str(davis.root))) == ["test-dev", "train"]
    with pytest.raises(UserError, match=r"'\._train' is not in"):
        open_davis(davis.root, split="._train")


def test_full_resolution(davis, labels):
    davis.frame("JPEGImages/Full-Resolution/cat/00000.jpg", (48, 64))
    davis.mask("Annotations/Full-Resolution/cat/00000.png", labels(1, size=(48, 64)))
    (cat,) = open_davis(davis.root, resolution="Full-Resolution", split="train", short_side=24)
    assert cat.size == (24, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": "nowhere"}, r"nowhere does not exist: set root"),
        ({"resolution": "1080p"}, "1080p does not exist"),
        ({"split": "trian"}, "'trian'.*did you mean train"),
        ({"split": "train", "sequences": ["cats"]}, "'cats'.*did you mean cat"),
        ({"split": "train", "sequences": ["dog"]}, "'dog' is not in split train"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(davis, arguments, message):
    with pytest.raises(UserError, match=message):
        open_davis(**{"root": davis.root, **arguments})


@pytest.mark.parametrize("missing", ["JPEGImages/480p/cat/00002.jpg", "Annotations/480p/cat/00002.png"])
def test_a_missing_frame_or_mask_is_named(davis, missing):
    (davis.root / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing"):
        open_davis(davis.root, split="train")


@pytest.mark.parametrize("kind", ["JPEGImages", "Annotations"])
def test_a_listed_sequence_that_is_not_there_is_named_with_its_list(davis, kind):
    davis.text("ImageSets/2017/val.txt", "cat\ncow\n")
    for other in {"JPEGImages", "Annotations"} - {kind}:
        (davis.root / f"{other}/480p/cow").mkdir()
    with pytest.raises(
        UserError, match=rf"{kind}/480p/cow does not exist: .*ImageSets/2017/val\.txt lists it"
    ):
        open_davis(davis.root, split="val")


def test_lists_may_come_from_windows(davis):
    (davis.root / "ImageSets/2017/val.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n\r\n")
    assert [s.name for s in open_davis(davis.root, split="val")] == ["cat", "dog"]


def test_lists_in_other_encodings_are_refused(davis):
    (davis.root / "ImageSets/2017/val.txt").write_bytes("cat\n".encode("utf-16"))
    with pytest.raises(UserError, match=r"val\.txt cannot be read as a text in UTF-8"):
        open_davis(davis.root, split="val")


def test_a_file_is_no_root(davis):
    with pytest.raises(UserError, match=r"DAVIS\.zip is a file, not a folder: set root"):
        open_davis(davis.text("DAVIS.zip", ""))


def test_a_gap_in_the_count_of_frames_is_a_missing_frame(davis):
    for folder, suffix in (("JPEGImages", "jpg"), ("Annotations", "png")):
        (davis.root / f"{folder}/480p/cat/00001.{suffix}").unlink()
    with pytest.raises(UserError, match=r"00001\.jpg is missing"):
        open_davis(davis.root, split="train")


def test_masks_that_misfit_or_hold_colours_or_no_object_are_named(davis, labels):
    davis.mask("Annotations/480p/cat/00003.png", labels(1, size=(24, 31)))
    with pytest.raises(UserError, match=r"cat/00003\.png is 31x24"):
        open_davis(davis.root, split="train")
    davis.mask("Annotations/480p/cat/00003.png", labels(1), "RGB")
    with pytest.raises(UserError, match=r"cat/00003\.png is a colour image"):
        open_davis(davis.root, split="train")
    davis.mask("Annotations/480p/dog/00000.png", labels(0))
    first = r"the first mask of sequence dog shows no object \(0 .*: correct .*dog/00000\.png"
    with pytest.raises(UserError, match=first):
        open_davis(davis.root, split="test-dev")


@pytest.mark.parametrize("year", ["2016", "2017"])
def test_a_first_mask_that_shows_no_object_is_named_whatever_later_ones_show(davis, labels, year):
    davis.mask("Annotations/480p/cat/00000.png", labels(0))
    with pytest.raises(UserError, match=r"first mask of sequence cat shows no object.*cat/00000\.png"):
        open_davis(davis.root, year, sequences=["cat"])


def test_an_object_that_vanishes_from_the_first_mask_when_reduced_starts_later(davis):
    dot, box = np.zeros((2, 24, 32), np.uint8)
    dot[4, 4], box[8:16, 8:16] = 1, 1
    for t in range(4):
        davis.mask(f"Annotations/480p/cat/{t:05d}.png", box if t > 1 else dot)
    (cat,) = open_davis(davis.root, "2016", sequences=["cat"], short_side=16)
    assert (cat.object_ids, cat.first_frame(1)) == ((1,), 2)


def test_listing_opens_no_file(davis):
    for path in [*davis.root.rglob("*.jpg"), *davis.root.rglob("*.png")]:
        path.write_bytes(b"")
    assert [s.num_frames for s in davis_sequences(Davis(root=str(davis.root)), {})] == [4, 4]


def test_the_check_at_the_start_decodes_one_mask_a_sequence_and_no_frame(davis):
    for path in davis.root.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-20])
    for path in davis.root.rglob("cat/0000[123].png"):
        path.write_bytes(path.read_bytes()[:-40])
    cat, _ = open_davis(davis.root)
    with pytest.raises(UserError, match="cannot be read"):
        cat.image(0)
    with pytest.raises(UserError, match="cannot be read"):
        cat.mask(1)


def test_real_davis(shared):
    sequences = open_davis(shared / "davis2016", "2016", split="val", short_side=240)
    assert [(s.name, s.num_frames) for s in sequences] == [
        ("breakdance", 84),
        ("camel", 90),
        ("dog", 60),
        ("scooter-black", 43),
    ]
    camel = sequences[1]
    assert (camel.size, camel.object_ids, len(camel.annotated_frames)) == ((240, 427), (1,), 90)
    assert camel.image(89).shape == (3, 240, 427)
    assert camel.mask(89).unique().tolist() == [0, 1]


def test_the_check_of_real_data_needs_no_torch(shared):
    code = (
        "import sys; from eosvos.config.data import Davis, Synthetic; "
        "from eosvos.data.davis import davis_sequences; "
        f"davis_sequences(Davis(root={str(shared / 'davis2016')!r}, year='2016', split='train')); "
        "import eosvos.data.folder, eosvos.data.youtube_vos; "
        "from eosvos.data.synthetic import synthetic_videos; synthetic_videos(Synthetic()); "
        "synthetic_videos(Synthetic(split='test', num_videos=20)); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
