import json
import logging

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as masks

from eosvos.config.data import Coco, Tasks
from eosvos.data.coco import coco_stills
from eosvos.data.task_source import TrainingSet, list_objects
from eosvos.data.tasks import TaskSampler
from eosvos.errors import UserError


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(number, image, segmentation, area, **more):
    return {"id": number, "image_id": image, "segmentation": segmentation, "area": area, **more}


def run_lengths(at, side, size=(24, 32)):
    labels = np.zeros(size, np.uint8, order="F")
    labels[at[0] : at[0] + side, at[1] : at[1] + side] = 1
    runs = masks.encode(labels)
    return {"size": list(size), "counts": runs["counts"].decode()}


@pytest.fixture
def coco(disk):
    """Picture 7: a square of two parts and a smaller one on it; picture 9, larger: run lengths, a crowd."""
    disk.frame("images/0007.jpg", (24, 32))
    disk.frame("images/0009.jpg", (40, 30))
    disk.frame("images/0011.jpg", (24, 32))
    content = {
        "images": [
            {"id": 7, "file_name": "0007.jpg", "height": 24, "width": 32},
            {"id": 9, "file_name": "0009.jpg", "height": 40, "width": 30},
            {"id": 11, "file_name": "0011.jpg", "height": 24, "width": 32},
        ],
        "annotations": [
            annotation(1, 7, [square(6, 6, 4)], 16),
            annotation(2, 7, [square(2, 2, 10), square(20, 2, 6)], 136),
            annotation(3, 7, [square(28, 20, 2)], 4),
            annotation(4, 9, run_lengths((10, 5), 12, (40, 30)), 144),
            annotation(5, 9, {"size": [40, 30], "counts": [0, 1200]}, 1200, iscrowd=1),
            annotation(6, 9, {"size": [40, 30], "counts": [40 * 20, 40 * 5, 40 * 5]}, 200),
        ],
    }
    return disk, content


def open_coco(coco, **settings):
    disk, content = coco
    file = disk.text("instances.json", json.dumps(content))
    given = {"images": str(disk.root / "images"), "annotations": str(file), "min_area": 10.0, **settings}
    return coco_stills(Coco(**given))


def test_instances_are_tasks_drawn_as_pycocotools_does(coco, caplog):
    first, second, empty = open_coco(coco)
    with caplog.at_level(logging.WARNING):
        found = [(still.name, i) for still, i in list_objects([first, second, empty])]
    assert found == [("0007", 1), ("0007", 2), ("0009", 1), ("0009", 2)]
    assert "1 pictures show no object and are left out: 0011" in caplog.text
    labels = np.zeros((24, 32), np.uint8)
    labels[2:12, 2:12], labels[2:8, 20:26], labels[6:10, 6:10] = 1, 1, 2
    np.testing.assert_array_equal(first.mask(0), labels)
    labels = np.zeros((40, 30), np.uint8)
    labels[:, 20:25], labels[10:22, 5:17] = 1, 2
    np.testing.assert_array_equal(second.mask(0), labels)
    assert (first.size, second.size) == ((24, 32), (40, 30))


def test_small_instances_and_chosen_pictures(coco):
    assert [s.training_object_ids for s in open_coco(coco, min_area=0.0)] == [(1, 2, 3), (1, 2), ()]
    assert [s.training_object_ids for s in open_coco(coco, min_area=150.0)] == [(), (1,), ()]
    (one,) = open_coco(coco, sequences=["0009"], short_side=16)
    assert one.size == (21, 16)
    assert one.object_ids == (1, 2)


def test_a_picture_of_several_ids_has_the_instances_of_all(coco):
    images, annotations = coco[1]["images"], coco[1]["annotations"]
    images += [images[0], {**images[0], "id": 8}]
    annotations.append(annotation(7, 8, [square(20, 12, 8)], 64))
    first, *others = open_coco(coco)
    assert (first.name, first.training_object_ids, len(others)) == ("0007", (1, 2, 3), 2)
    assert first.mask(0)[16, 24] == 2


def test_listing_opens_no_picture(coco):
    for path in (coco[0].root / "images").iterdir():
        path.write_bytes(b"")
    assert len(list_objects(open_coco(coco))) == 4


def test_a_changed_file_is_read_again(coco):
    assert len(open_coco(coco)) == 3
    coco[1]["images"].pop()
    assert len(open_coco(coco)) == 2


def test_tasks_are_drawn(coco):
    task = TaskSampler([TrainingSet(open_coco(coco))], Tasks(), 4).sample(0, 0)
    assert (task.support_masks == 1).any()
    assert (task.query_masks == 1).any()


def test_instances_that_enclose_nothing_are_skipped_in_training(coco):
    coco[1]["annotations"][:] = [annotation(1, 7, [], 99), annotation(2, 7, [[1, 1, 9, 9]], 98)]
    coco[1]["annotations"].append(annotation(3, 9, [square(3, 3, 9)], 81))
    sampler = TaskSampler([TrainingSet(open_coco(coco))], Tasks(), 4)
    assert {sampler.sample(0, slot).name for slot in range(3)} == {"0009:1"}
    assert sorted(sampler.skipped.values()) == ["1 of 0007", "2 of 0007"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d, c: (d.root / "images/0009.jpg").unlink(),
            r"0009\.jpg is missing: .*\.json names it",
        ),
        (lambda d, c: c.pop("annotations"), r"instances\.json cannot be read as COCO's .*annotations"),
        (lambda d, c: c["images"].clear(), "names no picture"),
        (
            lambda d, c: c["images"].append({**c["images"][0], "id": 8, "file_name": "0007.png"}),
            r"instances\.json names 0007\.jpg and 0007\.png, both called 0007: take one",
        ),
        (lambda d, c: c["annotations"][0].update(segmentation=[["a"] * 6]), "cannot be read as COCO's"),
        (
            lambda d, c: c["annotations"][0].update(area=None, bbox=[]),
            "cannot be read as COCO's .*IndexError",
        ),
        (lambda d, c: c["annotations"][0].pop("image_id"), "cannot be read as COCO's .*image_id"),
    ],
)
def test_what_is_wrong_is_named_at_the_start(coco, change, message):
    change(*coco)
    with pytest.raises(UserError, match=message):
        open_coco(coco)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][3]["segmentation"].update(size=[30, 40]),
            r"annotation 4 of .* \[30, 40",
        ),
        (lambda c: c["images"][1].update(height=30, width=40), r"annotation 6 of .*its size is \[40, 30\]"),
    ],
)
def test_what_cannot_be_drawn_is_named(coco, change, message):
    change(coco[1])
    with pytest.raises(UserError, match=message):
        open_coco(coco)[1].mask(0)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_picture_is_taken_as_it_is_stored_if_the_file_has_its_size_so(coco, orientation):
    pixels = np.zeros((24, 32, 3), np.uint8)
    pixels[:, :16] = 255
    stored = Image.fromarray(pixels)
    exif = stored.getexif()
    exif[0x0112] = orientation
    path = coco[0].root / "images/0007.png"
    (coco[0].root / "images/0007.jpg").unlink()
    stored.save(path, exif=exif)
    coco[1]["images"][0]["file_name"] = "0007.png"
    picture = open_coco(coco)[0]
    np.testing.assert_array_equal(picture.image(0).permute(1, 2, 0), pixels)
    assert picture.mask(0).shape == picture.size == (24, 32)


def test_a_picture_is_turned_if_the_file_has_its_size_so(coco):
    stored = Image.new("RGB", (24, 32))
    exif = stored.getexif()
    exif[0x0112] = 6
    stored.save(coco[0].root / "images/0007.jpg", exif=exif)
    assert open_coco(coco)[0].image(0).shape == (3, 24, 32)


def test_a_picture_of_another_size_misfits(coco):
    Image.new("RGB", (30, 24)).save(coco[0].root / "images/0007.jpg")
    with pytest.raises(UserError, match=r"instances\.json is 32x24, but .*0007\.jpg is 30x24"):
        open_coco(coco)[0].mask(0)


def test_missing_folder_and_file(coco):
    with pytest.raises(UserError, match="set images to the folder of the pictures"):
        open_coco(coco, images="nowhere")
    with pytest.raises(UserError, match=r"nowhere\.json cannot be read"):
        open_coco(coco, annotations="nowhere.json")
