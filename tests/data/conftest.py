"""Small data sets on disk, made for one test."""

import numpy as np
import pytest


def box_mask(object_id=1, size=(24, 32), at=(8, 8)):
    """Labels [H, W] with one box of 8x8 pixels."""
    labels = np.zeros(size, np.uint8)
    labels[at[0] : at[0] + 8, at[1] : at[1] + 8] = object_id
    return labels


@pytest.fixture
def labels():
    return box_mask


@pytest.fixture
def davis(disk):
    """A DAVIS 2017: `cat` has two objects in all of 4 frames, `dog` its first mask only."""
    both = box_mask(1) + box_mask(2, at=(8, 20))
    both[0, :5] = 255
    for t in range(4):
        disk.frame(f"JPEGImages/480p/cat/{t:05d}.jpg", value=40 * t)
        disk.frame(f"JPEGImages/480p/dog/{t:05d}.jpg")
        disk.mask(f"Annotations/480p/cat/{t:05d}.png", both)
    disk.mask("Annotations/480p/dog/00000.png", box_mask(1))
    disk.text("ImageSets/2017/train.txt", "cat\n")
    disk.text("ImageSets/2017/test-dev.txt", "dog\n")
    return disk
