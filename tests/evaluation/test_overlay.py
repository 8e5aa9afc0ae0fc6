"""Overlay strips: which frames, which colours, and that the video is not held in memory."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from eosvos.evaluation.overlay import GAP, MARK, OverlayStrip, blend, evenly_chosen
from eosvos.evaluation.results import davis_palette


@given(st.integers(0, 50), st.integers(0, 200), st.integers(1, 9))
def test_chosen_frames_ascend_from_first_to_last_evenly(first, length, count):
    last = first + length
    chosen = evenly_chosen(first, last, count)
    assert chosen[0] == first
    assert len(chosen) == min(count, length + 1)
    if count > 1:
        assert chosen[-1] == last
    assert list(chosen) == sorted(set(chosen))
    steps = np.diff(chosen)
    assert len(steps) == 0 or steps.max() - steps.min() <= 1


def test_blend_colours_objects_and_leaves_the_rest():
    image = np.full((200, 200, 3), 100, np.uint8)
    labels = np.zeros((200, 200), np.uint8)
    labels[50:150, 50:100] = 1
    labels[50:150, 100:150] = 2
    labels[:10] = 255
    out = blend(image, labels)
    colours = davis_palette().astype(float)
    assert (out[labels == 0] == 100).all()
    assert (out[labels == 255] == 100).all()
    np.testing.assert_array_equal(out[100, 75], ((100 + colours[1]) / 2).round())
    np.testing.assert_array_equal(out[100, 125], ((100 + colours[2]) / 2).round())
    for y, x, object_id in (
        (50, 75, 1),
        (149, 75, 1),
        (100, 50, 1),
        (100, 99, 1),
        (100, 100, 2),
        (100, 149, 2),
    ):
        np.testing.assert_array_equal(out[y, x], colours[object_id])


@pytest.fixture
def strip_of(two_squares):
    def make(**settings) -> OverlayStrip:
        strip = OverlayStrip(two_squares, **settings)
        for t, mask in enumerate(two_squares.masks):
            strip.add(t, torch.from_numpy(np.zeros_like(mask)))
        return strip

    return make


def test_strip_shows_the_given_mask_first_then_predictions(strip_of, tmp_path):
    strip = strip_of(panels=3, height=40)
    assert strip.frames == (0, 2, 5)
    strip.save(tmp_path / "deep/strip.png")
    with Image.open(tmp_path / "deep/strip.png") as image:
        assert image.size == (3 * 60 + 2 * GAP, 40)
        pixels = np.array(image)
    # The predictions are empty, the first panel shows the annotation all the same, within a frame.
    assert tuple(pixels[0, 30]) == MARK
    np.testing.assert_array_equal(pixels[27, 40], ((40 + davis_palette()[2].astype(float)) / 2).round())
    second = pixels[:, 60 + GAP : 120 + GAP]
    assert tuple(second[27, 40]) == (42, 42, 42)
    assert tuple(second[0, 30]) == (42, 42, 42)


def test_only_the_shown_frames_are_read(two_squares, monkeypatch):
    read = []
    original = two_squares.image
    monkeypatch.setattr(two_squares, "image", lambda t: read.append(t) or original(t))
    strip = OverlayStrip(two_squares, panels=2)
    for t, mask in enumerate(two_squares.masks):
        strip.add(t, torch.from_numpy(mask))
    assert read == [0, 5]


def test_a_late_first_annotation_starts_the_strip(two_squares, make_sequence):
    sequence = make_sequence([None, None, *two_squares.masks])
    assert OverlayStrip(sequence, panels=3).frames == (2, 4, 7)


def test_single_frame_and_jpeg(two_squares, make_sequence, tmp_path):
    strip = OverlayStrip(make_sequence(two_squares.masks[:1]), height=120)
    strip.add(0, torch.from_numpy(two_squares.masks[0]))
    strip.save(tmp_path / "strip.jpg")
    with Image.open(tmp_path / "strip.jpg") as image:
        assert image.format == "JPEG"
        assert image.size == (180, 120)


def test_a_strip_without_frames_is_an_error(two_squares, tmp_path):
    with pytest.raises(ValueError, match="squares"):
        OverlayStrip(two_squares).save(tmp_path / "strip.png")
