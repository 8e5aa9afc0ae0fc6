import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.files import FileSequence
from eosvos.data.pictures import read_labels
from eosvos.errors import UserError


def test_frames_and_masks_come_as_they_are_on_disk(disk, labels):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(disk.root / "a.png")
    sequence = FileSequence("s", [disk.root / "a.png"], {0: disk.mask("m.png", labels(5))})
    assert sequence.size == (24, 32)
    assert sequence.frame_names == ("a",)
    np.testing.assert_array_equal(sequence.image(0), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(sequence.mask(0), labels(5))
    assert sequence.image(0).dtype == sequence.mask(0).dtype == torch.uint8
    assert sequence.object_ids == (5,)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_values_of_palette_and_grey_masks_are_ids(disk, labels, mode):
    path = disk.mask("m.png", labels(3), mode)
    assert Image.open(path).mode == mode
    np.testing.assert_array_equal(read_labels(path), labels(3))


def test_black_and_white_masks_are_one_object(disk, labels):
    np.testing.assert_array_equal(read_labels(disk.mask("m.png", labels(255), "1")), labels(1))


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA", "LA"])
def test_merged_masks_are_object_1_wherever_they_are_not_black(disk, labels, mode):
    path = disk.mask("m.png", labels(255) + labels(2, at=(8, 20)), mode)
    np.testing.assert_array_equal(read_labels(path, merge_objects=True), labels(1) + labels(1, at=(8, 20)))


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "colour"), ("LA", "grey and alpha"), ("I;16", "16-bit grey")]
)
def test_masks_of_other_kinds_hold_no_ids_and_are_called_what_they_are(disk, labels, mode, kind):
    path = disk.mask("m.png", labels(1), mode)
    assert Image.open(path).mode == mode
    with pytest.raises(UserError, match=rf"m\.png is a {kind} image, but .* palette or 8-bit grey"):
        read_labels(path)


def test_short_side_reduces_frames_and_masks_alike_but_never_enlarges(disk, labels):
    frame, mask = disk.frame("a.png", (24, 32)), disk.mask("m.png", labels(4))
    small = FileSequence("s", [frame], {0: mask}, short_side=12)
    assert small.size == (12, 16)
    assert small.image(0).shape == (3, 12, 16)
    np.testing.assert_array_equal(small.mask(0), labels(4)[::2, ::2])
    assert FileSequence("s", [frame], {}, short_side=480).size == (24, 32)


def test_unannotated_frames_have_no_mask_and_negative_indices_count_from_the_end(disk, labels):
    frames = [disk.frame("a.png"), disk.frame("b.png")]
    sequence = FileSequence("s", frames, {1: disk.mask("b.mask.png", labels(1))})
    assert sequence.mask(0) is None
    assert sequence.mask(-1) is not None
    assert sequence.annotated_frames == (1,)
    assert sequence.first_frame(1) == 1


def test_broken_missing_and_misfitting_files_are_named(disk, labels):
    good, cut = disk.frame("good.png"), disk.frame("cut.png")
    cut.write_bytes(cut.read_bytes()[:60])
    frames = [good, cut, disk.root / "gone.png", disk.frame("wide.png", (24, 40))]
    sequence = FileSequence("s", frames, {0: disk.mask("m.png", labels(1, size=(24, 30)))})
    for t, message in ((1, r"cut\.png cannot be read"), (2, r"gone\.png is missing"), (3, "is 40x24")):
        with pytest.raises(UserError, match=message):
            sequence.image(t)
    with pytest.raises(UserError, match=r"m\.png is 30x24, but .*good\.png is 32x24"):
        sequence.mask(0)


def test_sequences_are_small_when_pickled(disk, labels):
    sequence = FileSequence("s", [disk.frame("a.png", (240, 320))], {})
    sequence.image(0)
    assert len(pickle.dumps(sequence)) < 2000
