"""Videos in memory: every way to give them, and a sentence for what is none."""

import numpy as np
import pytest
import torch

from eosvos.data.arrays import ArraySequence
from eosvos.errors import UserError

FRAMES = np.random.default_rng(0).integers(0, 256, (4, 6, 9, 3), dtype=np.uint8)
FRAMES[0, 0, 0] = 0, 255, 100
MASK = np.zeros((6, 9), np.uint8)
MASK[2:4, 3:5] = 7
MASK[0] = 255


def seen(frames):
    """All frames as the sequence gives them, uint8 [T, 3, H, W]."""
    video = ArraySequence(frames, np.ones((6, 9), bool))
    images = [video.image(t) for t in range(video.num_frames)]
    assert all(image.is_contiguous() for image in images)
    return torch.stack(images)


def test_arrays_and_tensors_in_either_order_are_the_same_video():
    expected = torch.from_numpy(FRAMES).permute(0, 3, 1, 2)
    channels_first = np.ascontiguousarray(FRAMES.transpose(0, 3, 1, 2))
    for frames in (
        FRAMES,
        channels_first,
        torch.from_numpy(FRAMES),
        torch.from_numpy(channels_first),
        list(FRAMES),
        tuple(torch.from_numpy(channels_first)),
        iter(FRAMES),
        FRAMES[..., ::-1].copy()[..., ::-1],
    ):
        assert torch.equal(seen(frames), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.dtype(">f4"), torch.bfloat16])
def test_floats_are_scaled_once(dtype):
    tensor = isinstance(dtype, torch.dtype)
    frames = torch.from_numpy(FRAMES).to(dtype) / 255 if tensor else (FRAMES / 255.0).astype(dtype)
    difference = seen(frames).int() - torch.from_numpy(FRAMES).permute(0, 3, 1, 2).int()
    assert difference.abs().max() <= (1 if tensor else 0)
    assert seen(frames).max() > 250


def test_the_last_axis_is_the_colours_if_there_are_three():
    narrow = np.zeros((2, 3, 5, 3), np.uint8)
    narrow[..., 0] = 200
    video = ArraySequence(narrow, np.ones((3, 5), np.uint8))
    assert video.size == (3, 5)
    assert video.image(0)[:, 0, 0].tolist() == [200, 0, 0]
    assert ArraySequence(narrow[:, :, :, :2], np.ones((5, 2), np.uint8)).size == (5, 2)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16, torch.uint8, torch.int32])
def test_masks_of_whole_numbers_are_ids(kind):
    mask = torch.from_numpy(MASK).to(kind) if isinstance(kind, torch.dtype) else MASK.astype(kind)
    video = ArraySequence(FRAMES, mask, name="mine")
    assert (video.name, video.frame_names[3], video.size) == ("mine", "00003", (6, 9))
    assert video.annotated_frames == (0,)
    assert torch.equal(video.mask(0), torch.from_numpy(MASK))
    assert (video.mask(1), video.object_ids) == (None, (7,))


def test_masks_of_several_frames():
    video = ArraySequence(FRAMES, {2: MASK == 7, np.int64(0): np.where(MASK == 7, 3, 0)})
    assert video.annotated_frames == (0, 2)
    assert {i: video.first_frame(i) for i in video.object_ids} == {3: 0, 1: 2}


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (FRAMES.astype(np.float32), r"float in 0\.\.1, not array float32 \[4, 6, 9, 3\] .* from 0 to 255"),
        (FRAMES / 255 - 0.5, "with values from -0.5 to 0.5"),
        (np.full((1, 6, 9, 3), np.nan), "with values from nan to nan"),
        (FRAMES.astype(np.int64), r"not array int64 \[4, 6, 9, 3\]"),
        (torch.from_numpy(FRAMES).short(), r"not tensor int16 \[4, 6, 9, 3\]"),
        (FRAMES > 100, "not array bool"),
        (FRAMES.astype(complex), "not array complex128"),
        (FRAMES[..., :1], r"not array uint8 \[4, 6, 9, 1\]"),
        (FRAMES[..., 0], r"not array uint8 \[4, 6, 9\]"),
        (FRAMES[0], r"not array uint8 \[6, 9, 3\]"),
        (np.zeros((4, 6, 9, 4), np.uint8), r"not array uint8 \[4, 6, 9, 4\]"),
        (FRAMES[None], r"not array uint8 \[1, 4, 6, 9, 3\]"),
        (FRAMES[:, :0], r"not array uint8 \[4, 0, 9, 3\]"),
        (FRAMES[:0], "there is none"),
        ([], "there is none"),
        ([FRAMES[0], FRAMES[1][:, :5]], "of one size: frames 0 and 1 are 6x9 and 6x5"),
        ([FRAMES[0], FRAMES[1][..., :1]], r"not array uint8 \[6, 9, 1\]"),
        ([FRAMES[0].tolist()], "not list"),
        (np.uint8(3), r"not array uint8 \[\]"),
        (torch.tensor(1), "not tensor int64"),
        ("clip.mp4", "not str"),
        (None, "not NoneType"),
    ],
)
def test_frames_that_are_none(frames, said):
    with pytest.raises(UserError, match=f"^frames must be .*{said}"):
        ArraySequence(frames, MASK)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (MASK.astype(np.float32), r"not array float32 \[6, 9\]"),
        (torch.from_numpy(MASK) / 255, r"not tensor float32 \[6, 9\]"),
        (MASK[None], r"of the frames' size \[6, 9\], not array uint8 \[1, 6, 9\]"),
        (MASK[:, :5], r"of the frames' size \[6, 9\], not array uint8 \[6, 5\]"),
        (MASK.T, r"not array uint8 \[9, 6\]"),
        (MASK.astype(int) + 1, "not values from 1 to 256"),
        (MASK.astype(int) - 1, "not values from -1 to 254"),
        (np.zeros_like(MASK), "no mask given shows an object"),
        (np.where(MASK, 255, 0), "255 for what to ignore; no mask given shows an object"),
        ({}, "no mask given shows an object"),
        ({4: MASK}, "the key 4: it must be an index of the 4 frames"),
        ({-1: MASK}, "the key -1"),
        ({"00000": MASK}, "the key '00000'"),
        ({0: MASK, 1: MASK[:2]}, r"not array uint8 \[2, 9\]"),
        ([MASK], "not list"),
        (None, "not NoneType"),
        ("mask.png", "not str"),
    ],
)
def test_masks_that_are_none(mask, said):
    with pytest.raises(UserError, match=f"^mask .*{said}"):
        ArraySequence(FRAMES, mask)


def test_tensors_without_plain_values_are_refused():
    sparse = torch.from_numpy(MASK).to_sparse()
    with pytest.raises(UserError, match=r"^mask must be .*not sparse_coo tensor uint8"):
        ArraySequence(FRAMES, sparse)
    with pytest.raises(UserError, match=r"^frames must be .*on meta"):
        ArraySequence(torch.empty(2, 6, 9, 3, dtype=torch.uint8, device="meta"), MASK)
