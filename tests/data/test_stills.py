import json
import logging

import numpy as np
import pytest
import torch
from helpers import LIGHT, SMALL, prepared
from PIL import Image

from eosvos.config.data import VOC2012, Augmentation, Images, Tasks
from eosvos.data.sequence import VideoSequence
from eosvos.data.stills import image_stills, voc_stills
from eosvos.data.task_source import TrainingSet, check_query_frames, list_objects
from eosvos.data.tasks import TaskSampler
from eosvos.errors import UserError
from eosvos.training.train import train

SYNTHETIC = "_target_:eosvos.data.synthetic.synthetic_videos,num_videos:1,size:[32,48],num_frames:3"
VIDEOS = (f"dataset.val={{{SYNTHETIC},split:val}}", f"dataset.test={{{SYNTHETIC},split:test}}")
NETWORK = (
    *("meta=tiny", "backbone=tiny", "finetune=quick", LIGHT, "trainer=cpu"),
    *(one for one in SMALL if not one.startswith("dataset.")),
)


@pytest.fixture
def sets(disk, labels):
    """Two sets: of palette masks with ids 3 and 9 and a rim of 255, and of a grey one; of many sizes."""
    both = labels(3) + labels(9, at=(8, 20))
    both[0, :5] = 255
    for i, size in enumerate([(24, 32), (40, 30)]):
        disk.frame(f"a/images/p{i}.jpg", size)
        disk.mask(f"a/masks/p{i}.png", np.pad(both, ((0, 16), (0, 0)))[: size[0], : size[1]])
    disk.frame("b/images/q.png", (24, 32))
    disk.mask("b/masks/q.png", labels(1), "L")
    (disk.root / "notes").mkdir()
    return disk


def open_images(disk, **settings):
    return image_stills(Images(root=str(disk.root), **settings))


def objects(stills):
    return [(still.name, object_id) for still, object_id in list_objects(stills)]


def test_each_object_of_each_picture_of_each_set_is_a_task(sets):
    stills = open_images(sets)
    assert objects(stills) == [("a/p0", 3), ("a/p0", 9), ("a/p1", 3), ("a/p1", 9), ("b/q", 1)]
    assert {still.num_frames for still in stills} == {1}
    assert [still.size for still in stills] == [(24, 32), (40, 30), (24, 32)]
    assert stills[0].folders == (sets.root / "a/images", sets.root / "a/masks")


def test_root_may_be_a_set_and_sets_and_pictures_can_be_chosen(sets):
    (one,) = image_stills(Images(root=str(sets.root / "b")))
    assert one.name == "q"
    assert [still.name for still in open_images(sets, sets=["b"])] == ["b/q"]
    assert [still.name for still in open_images(sets, sequences=["a/p1"])] == ["a/p1"]


def test_support_and_query_are_two_warps_of_the_picture(sets):
    draw = TaskSampler([TrainingSet(open_images(sets))], Tasks(query_frames=2), 4).sample(0, 0)
    assert draw.query_images.shape[0] == 2
    frames = [*draw.support_images, *draw.query_images]
    assert not any(torch.equal(frames[i], frames[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    assert all((mask == 1).any() for mask in [*draw.support_masks, *draw.query_masks])


@pytest.mark.parametrize("augment", [None, Augmentation(rotation=0, scale_min=1.0, scale_max=1.0)])
def test_pictures_need_warps(sets, augment):
    shifted = Augmentation(rotation=0, scale_min=1.0, scale_max=1.0, shift=0.1)
    for enough in (Tasks(), Tasks(augment=shifted)):
        check_query_frames(open_images(sets), enough)
    with pytest.raises(UserError, match=r"another warp of it, .* set augment\.rotation"):
        check_query_frames(open_images(sets), Tasks(augment=augment))


class OneMask(VideoSequence):
    name, size, frame_names, annotated_frames = "lone", (8, 8), ("0", "1"), (0,)

    def image(self, t):
        raise NotImplementedError

    def mask(self, t):
        raise NotImplementedError


def test_a_video_with_one_mask_is_still_a_mistake(sets, caplog):
    with pytest.raises(UserError, match="no training video has two frames with masks"):
        check_query_frames([OneMask()], Tasks())
    check_query_frames([OneMask(), *open_images(sets)], Tasks())
    assert "1 of 1 training videos do not have two frames with masks" in caplog.text
    with pytest.raises(UserError, match="lone has masks for 1"):
        check_query_frames([OneMask(), *open_images(sets)], Tasks(query_frames=2))


def test_an_empty_mask_is_left_out_and_said(sets, labels, caplog):
    sets.mask("b/masks/q.png", labels(255), "L")
    with caplog.at_level(logging.WARNING):
        assert {name for name, _ in objects(open_images(sets))} == {"a/p0", "a/p1"}
    assert "1 pictures show no object and are left out: b/q" in caplog.text
    with pytest.raises(UserError, match="set single_object=true where white"):
        list_objects(open_images(sets, sets=["b"]))


def test_white_is_the_object_if_there_is_but_one(sets, labels):
    sets.mask("b/masks/q.png", labels(255), "L")
    assert objects(open_images(sets, single_object=True)) == [("a/p0", 1), ("a/p1", 1), ("b/q", 1)]


def test_listing_decodes_nothing(sets):
    for path in sets.root.rglob("*.png"):
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"IDAT") + 4] + b"\0" * 99)
    stills = open_images(sets)
    with pytest.raises(UserError, match=r"p0\.png cannot be read"):
        list_objects(stills)


def test_pictures_are_turned_as_their_exif_says(sets, labels):
    upright = Image.new("RGB", (32, 24))
    exif = upright.getexif()
    exif[0x0112] = 6
    upright.save(sets.root / "b/images/q.png", exif=exif)
    with pytest.raises(UserError, match=r"b/masks/q\.png is 32x24, but .*b/images/q\.png is 24x32"):
        open_images(sets)
    sets.mask("b/masks/q.png", labels(1, size=(32, 24)), "L")
    assert open_images(sets)[-1].size == (32, 24)


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (lambda d, m: (d.root / "a/masks/p1.png").unlink(), {}, r"a/images/p1\.jpg has no mask p1\.png"),
        (lambda d, m: (d.root / "a/images/p1.jpg").unlink(), {}, r"a/masks/p1\.png has no picture"),
        (lambda d, m: d.mask("a/masks/p1.png", m(1)), {}, r"a/masks/p1\.png is 32x24"),
        (lambda d, m: d.mask("b/masks/q.png", m(1), "RGB"), {}, r"b/masks/q\.png is a colour image"),
        (lambda d, m: (d.root / "c/images").mkdir(parents=True), {}, "c/images holds no pictures"),
        (None, {"sets": ["bb"]}, "set 'bb' is not in .*did you mean"),
        (None, {"sequences": ["a/p7"]}, "picture 'a/p7' is not in .*did you mean a/p"),
        (None, {"root": "nowhere"}, "set root to a folder that holds images and masks"),
    ],
)
def test_defects_are_named_at_the_start(sets, labels, spoil, settings, message):
    if spoil:
        spoil(sets, labels)
    with pytest.raises(UserError, match=message):
        image_stills(Images(**{"root": str(sets.root), **settings}))


def test_a_set_has_no_sets_and_an_empty_folder_is_named(sets, tmp_path):
    with pytest.raises(UserError, match="is a set itself: leave sets out"):
        image_stills(Images(root=str(sets.root / "b"), sets=["b"]))
    with pytest.raises(UserError, match="neither images nor folders with images"):
        image_stills(Images(root=str(sets.root / "notes")))


@pytest.fixture
def voc(disk, labels):
    both = labels(1) + labels(2, at=(8, 20))
    both[7, 8:28] = 255
    for name in ("2007_000032", "2007_000033", "2008_000001"):
        disk.frame(f"JPEGImages/{name}.jpg")
        disk.mask(f"SegmentationObject/{name}.png", both)
    disk.frame("JPEGImages/2007_999999.jpg")
    disk.text("ImageSets/Segmentation/train.txt", "2007_000032\n2007_000033\n")
    disk.text("ImageSets/Segmentation/trainval.txt", "2007_000032\n2007_000033\n2008_000001\n")
    return disk


def open_voc(voc, **settings):
    return voc_stills(VOC2012(**{"root": str(voc.root), **settings}))


def test_pascal_voc_in_its_official_layout(voc):
    names = ["2007_000032", "2007_000033"]
    assert objects(open_voc(voc)) == [(name, i) for name in names for i in (1, 2)]
    assert len(open_voc(voc, split="trainval")) == 3
    assert (open_voc(voc)[0].mask(0) == 255).sum() == 20


@pytest.mark.parametrize(
    ("spoil", "settings", "message"),
    [
        (
            lambda d: (d.root / "SegmentationObject/2007_000033.png").unlink(),
            {},
            r"3\.png is missing",
        ),
        (lambda d: d.text("ImageSets/Segmentation/train.txt", ""), {}, r"train\.txt names no picture"),
        (lambda d: None, {"split": "val"}, r"val\.txt cannot be read"),
        (lambda d: None, {"sequences": ["2008_000001"]}, r"'2008_000001' is not in .*train\.txt"),
        (lambda d: None, {"root": "nowhere"}, "set root to VOCdevkit/VOC2012"),
    ],
)
def test_defects_of_pascal_voc_are_named(voc, spoil, settings, message):
    spoil(voc)
    with pytest.raises(UserError, match=message):
        open_voc(voc, **settings)


def coco_of(disk):
    square = [8, 8, 20, 8, 20, 16, 8, 16]
    content = {
        "images": [{"id": 1, "file_name": "q.png", "height": 24, "width": 32}],
        "annotations": [{"id": 1, "image_id": 1, "segmentation": [square], "area": 96}],
    }
    file = disk.text("a.json", json.dumps(content))
    return f"dataset.images={disk.root}/b/images", f"dataset.annotations={file}", "dataset.min_area=9"


def test_pictures_are_not_validated_on(sets, caplog):
    data = ("dataset=images", f"dataset.root={sets.root}", "iterations=2", *NETWORK)
    with pytest.raises(UserError, match=r"no data set has videos for val: name some, .* dataset=mixture"):
        prepared(*data)
    with pytest.raises(UserError, match=r"dataset\.val holds still pictures \(3 of 3\).* set dataset\.val"):
        prepared(*data, "dataset.val=${dataset.train}", VIDEOS[1])
    prepared(*data, *VIDEOS, "final_eval.selection_videos=1")
    assert "no rows with a fixed learning rate" in caplog.text


@pytest.mark.parametrize("dataset", ["images", "voc2012", "coco"])
def test_pictures_are_trained_on(sets, voc, tmp_path, dataset):
    places = coco_of(sets) if dataset == "coco" else (f"dataset.root={sets.root}",)
    length = ("iterations=2", "val_every=2")
    train(*prepared(f"dataset={dataset}", *places, *VIDEOS, *NETWORK, *length, output=tmp_path / "run"))
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


@pytest.mark.shared
def test_thousands_of_real_pictures(shared):
    stills = image_stills(Images(root=str(shared / "real/images")))
    assert len(stills) == 2865
    assert TaskSampler([TrainingSet(stills[:40])], Tasks(), 4).sample(0, 0).support_masks.any()
