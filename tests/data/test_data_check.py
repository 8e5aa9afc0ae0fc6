import json

import pytest
from PIL import Image

from eosvos.data.__main__ import main


def test_a_data_set_without_defects(davis, capsys):
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 0
    assert capsys.readouterr().out == "2 sequences, 8 frames, 5 masks: no defects\n"


def test_every_defect_is_listed_also_what_headers_do_not_show(davis, labels, capsys):
    frame = davis.root / "JPEGImages/480p/cat/00001.jpg"
    frame.write_bytes(frame.read_bytes()[:-200])
    davis.mask("Annotations/480p/cat/00002.png", labels(1, size=(24, 31)))
    davis.mask("Annotations/480p/cat/00003.png", labels(1), "RGB")
    davis.mask("Annotations/480p/dog/00000.png", labels(0))
    (davis.root / "JPEGImages/480p/dog/00002.jpg").unlink()
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 1
    lines = capsys.readouterr().out.splitlines()
    for line, words in zip(
        lines,
        [
            "cat/00001.jpg cannot be read",
            "cat/00002.png is 31x24",
            "cat/00003.png is a colour image",
            "dog/00002.jpg is missing",
            "the first mask of sequence dog",
            "2 sequences, 7 of 8 frames, 5 masks: 5 defects",
        ],
        strict=True,
    ):
        assert words in line


def test_a_missing_first_frame_is_one_defect(davis, capsys):
    (davis.root / "JPEGImages/480p/cat/00000.jpg").unlink()
    assert main(["check", str(davis.root), "--layout", "davis2017", "--sequences", "cat"]) == 1
    assert ": 1 defect\n" in capsys.readouterr().out


def test_objects_that_only_later_masks_show_are_listed(davis, labels, capsys):
    for t in (2, 3):
        davis.mask(f"Annotations/480p/cat/{t:05d}.png", labels(7))
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 1
    first, summary = capsys.readouterr().out.splitlines()
    assert "cat/00002.png shows object 7, but the first mask" in first
    assert summary.endswith(": 1 defect")


def test_what_cannot_be_listed_is_reported_with_all_else(davis, labels, capsys):
    (davis.root / "Annotations/480p/dog/00000.png").unlink()
    (davis.root / "Annotations/480p/dog").rmdir()
    frame = davis.root / "JPEGImages/480p/cat/00001.jpg"
    frame.write_bytes(frame.read_bytes()[:-200])
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 1
    first, second, summary = capsys.readouterr().out.splitlines()
    assert "Annotations/480p/dog does not exist" in first
    assert "cat/00001.jpg cannot be read" in second
    assert summary == "1 of 2 sequences, 4 frames, 4 masks: 2 defects"


def test_lists_are_read_and_what_exists_is_counted(davis, capsys):
    davis.text("ImageSets/2017/val.txt", "cat\ncow\n")
    assert main(["check", str(davis.root), "--layout", "davis2017"]) == 1
    first, summary = capsys.readouterr().out.splitlines()
    assert "480p/cow does not exist" in first
    assert "val.txt lists it" in first
    assert summary == "2 of 3 sequences, 8 frames, 5 masks: 1 defect"


def test_frames_that_lists_name_at_the_end_are_missed(davis, capsys):
    lines = [f"/JPEGImages/480p/cat/{t:05d}.jpg /Annotations/480p/cat/{t:05d}.png\n" for t in range(4)]
    davis.text("ImageSets/480p/val.txt", "".join(lines))
    (davis.root / "JPEGImages/480p/cat/00003.jpg").unlink()
    (davis.root / "Annotations/480p/cat/00003.png").unlink()
    assert main(["check", str(davis.root), "--layout", "davis2016"]) == 1
    out = capsys.readouterr().out
    assert "cat/00003.jpg is missing" in out
    assert "2 sequences, 7 of 8 frames, 4 of 5 masks: 2 defects" in out


def test_late_objects_that_are_not_scored_are_named_and_no_defects(disk, labels, capsys):
    for t in range(4):
        disk.frame(f"frames/{t}.jpg")
        disk.mask(f"masks/{t}.png", labels(1) + (labels(2, at=(8, 20)) if t > 1 else 0))
    assert main(["check", str(disk.root / "frames"), "--layout", "folder"]) == 0
    first, summary = capsys.readouterr().out.splitlines()
    assert first.startswith("object 2 is not scored: no mask comes after")
    assert "masks/2.png" in first
    assert summary == "1 sequences, 4 frames, 4 masks: no defects"


def test_pictures_are_read_as_in_training(disk, labels, capsys):
    for t in range(2):
        disk.frame(f"frames/{t}.jpg")
        disk.mask(f"masks/{t}.png", labels(1))
    frames = [Image.new("RGB", (32, 24), (value, 0, 0)) for value in (0, 99)]
    frames[0].save(disk.root / "frames/2.png", save_all=True, append_images=frames[1:])
    soft = labels(200)
    soft[7, 8:16], soft[16, 8:16], soft[8:16, 7] = 50, 100, 150
    disk.mask("masks/1.png", soft, "L")
    assert main(["check", str(disk.root / "frames"), "--layout", "folder"]) == 1
    out = capsys.readouterr().out
    assert "2.png holds 2 pictures" in out
    assert "1.png holds 4 values up to 200, which look like smooth edges" in out


def test_a_broken_first_mask_of_one_folder_does_not_hide_another(disk, labels, capsys):
    for name in ("a", "b"):
        disk.frame(f"frames/{name}/0.jpg")
        mask = disk.mask(f"masks/{name}/0.png", labels(255), "L")
    mask.write_bytes(mask.read_bytes()[:40])
    disk.mask("masks/a/0.png", labels(1, size=(24, 31)))
    assert main(["check", str(disk.root / "frames"), "--layout", "folder"]) == 1
    first, second, _ = capsys.readouterr().out.splitlines()
    assert "b/0.png cannot be read" in first
    assert "a/0.png is 31x24" in second


def test_what_meta_lists_but_nothing_shows(disk, labels, capsys):
    for t in ("00000", "00005"):
        disk.frame(f"train/JPEGImages/zoo/{t}.jpg")
    disk.mask("train/Annotations/zoo/00000.png", labels(1))
    mask = disk.mask("train/Annotations/zoo/00005.png", labels(1))
    frames = {"frames": ["00000", "00005", "00010"]}
    meta = {"videos": {"zoo": {"objects": {"1": frames, "2": frames}}}}
    disk.text("train/meta.json", json.dumps(meta))
    check = ["check", str(disk.root), "--layout", "youtube_vos"]
    assert main(check) == 1
    assert [line.split(":")[0].split("zoo/")[-1] for line in capsys.readouterr().out.splitlines()[:-1]] == [
        "00010.jpg is missing",
        "00010.png is missing",
    ]
    del frames["frames"][-1]
    disk.text("train/meta.json", json.dumps(meta))
    assert main(check) == 1
    assert "meta.json lists object 2 of sequence zoo, but no mask" in capsys.readouterr().out
    mask.write_bytes(mask.read_bytes()[:40])
    assert main(check) == 1
    assert "lists object" not in capsys.readouterr().out


def test_objects_that_meta_does_not_list(disk, labels, capsys):
    disk.frame("train/JPEGImages/zoo/00000.jpg")
    disk.mask("train/Annotations/zoo/00000.png", labels(1) + labels(2, at=(8, 20)))
    disk.text("train/meta.json", json.dumps({"videos": {"zoo": {"objects": {"1": {"frames": ["00000"]}}}}}))
    assert main(["check", str(disk.root), "--layout", "youtube_vos"]) == 1
    assert "00000.png shows object 2, but meta.json does not list it" in capsys.readouterr().out


def test_still_pictures(disk, labels, capsys):
    for i in range(4):
        disk.frame(f"s/images/{i}.jpg")
        disk.mask(f"s/masks/{i}.png", labels(1))
    disk.mask("s/masks/1.png", labels(255))
    (disk.root / "s/masks/2.png").unlink()
    (disk.root / "s/images/3.jpg").write_bytes(b"")
    check = ["check", str(disk.root), "--layout", "images"]
    assert main(check) == 1
    lines = capsys.readouterr().out.splitlines()
    for line, words in zip(
        lines,
        ["2.jpg has no mask", "no mask of sequence s/1 shows", "3.jpg cannot be read", "3 of 4 sequences"],
        strict=True,
    ):
        assert words in line
    assert main([*check, "--sequences", "s/0"]) == 0
    assert main([*check, "--sequences", "s/1", "--single-object"]) == 0


def test_pascal_voc_and_coco(disk, labels, capsys):
    for i in range(2):
        disk.frame(f"JPEGImages/{i}.jpg")
    disk.mask("SegmentationObject/0.png", labels(1))
    disk.text("ImageSets/Segmentation/trainval.txt", "0\n1\n")
    assert main(["check", str(disk.root), "--layout", "voc2012"]) == 1
    assert "SegmentationObject/1.png is missing" in capsys.readouterr().out
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 24, "width": 32} for i in range(3)]
    square = [8, 8, 16, 8, 16, 16, 8, 16]
    annotations = [{"id": i, "image_id": i, "segmentation": [square], "area": 64} for i in range(3)]
    annotations[1]["segmentation"] = {"size": [9, 9], "counts": "1"}
    file = disk.text("a.json", json.dumps({"images": images, "annotations": annotations}))
    check = ["check", str(disk.root / "JPEGImages"), "--layout", "coco"]
    assert main(check) == 2
    assert "--annotations FILE" in capsys.readouterr().err
    assert main([*check, "--annotations", str(file)]) == 1
    out = capsys.readouterr().out
    assert "2.jpg is missing" in out
    assert "annotation 1 of" in out
    assert "2 of 3 sequences, 2 frames, 2 masks: 2 defects" in out


def test_pictures_without_instances_are_counted_and_no_defects(disk, capsys):
    images = []
    for i in range(3):
        disk.frame(f"images/{i}.jpg")
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 24, "width": 32})
    one = {"id": 1, "image_id": 0, "segmentation": [[8, 8, 16, 8, 16, 16, 8, 16]], "area": 64}
    file = disk.text("a.json", json.dumps({"images": images, "annotations": [one]}))
    check = ["check", str(disk.root / "images"), "--layout", "coco", "--annotations", str(file)]
    assert main(check) == 0
    note, summary = capsys.readouterr().out.splitlines()
    assert note == "2 pictures have no instance, and training leaves them out"
    assert summary == "3 sequences, 3 frames, 3 masks: no defects"
    (disk.root / "images/2.jpg").write_bytes(b"")
    assert main(check) == 1
    assert "2.jpg cannot be read" in capsys.readouterr().out


def test_videos_below_one_root(disk, labels, capsys):
    disk.frame("JPEGImages/cat/0.jpg")
    disk.mask("Annotations/cat/0.png", labels(1))
    assert main(["check", str(disk.root), "--layout", "folder"]) == 0
    assert capsys.readouterr().out == "1 sequences, 1 frames, 1 masks: no defects\n"


def test_nothing_to_list_is_one_sentence(capsys):
    assert main(["check", "nowhere", "--layout", "youtube_vos"]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("root", "layout", "options", "said"),
    [
        ("VOC", "voc2012", ["--split", "test"], "split=test must be 'train', 'val' or 'trainval'"),
        ("VOC", "voc2012", ["--sequences", ""], "sequences=['']: must have at least 1 character"),
        ("", "coco", ["--annotations", "a.json"], "images= must have at least 1 character"),
    ],
)
def test_options_that_no_layout_takes_are_one_sentence(root, layout, options, said, capsys):
    assert main(["check", root, "--layout", layout, *options]) == 2
    assert " ".join(capsys.readouterr().err.split()) == said


def test_unknown_layouts_are_refused():
    with pytest.raises(SystemExit):
        main(["check", "x", "--layout", "codo"])


def test_the_real_mask_of_a_wrong_size_is_found(shared, capsys):
    assert main(["check", str(shared / "videos/images"), "--layout", "folder"]) == 1
    first, summary = capsys.readouterr().out.splitlines()
    assert "masks/judo/00005.png is 853x480" in first
    assert summary == "2 sequences, 20 frames, 5 masks: 1 defect"
