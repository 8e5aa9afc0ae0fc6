import numpy as np
import pytest
import torch
from PIL import Image

from eosvos.data.__main__ import main
from eosvos.data.show import contact_sheet
from eosvos.data.tasks import Task


def task(masks):
    images = torch.full((len(masks), 3, *masks.shape[1:]), 0.5)
    return Task(images[:1], masks[:1], images[1:], masks[1:], "cat", 3, 0, 0)


def colours(sheet):
    return {colour for _, colour in sheet.getcolors(1 << 20)}


def test_objects_are_outlined_however_small_and_ignored_pixels_tinted():
    masks = torch.zeros(2, 400, 400, dtype=torch.uint8)
    plain = colours(contact_sheet([task(masks)], 1))
    masks[1, 201, 201] = 1
    outlined = colours(contact_sheet([task(masks)], 1)) - plain
    assert outlined == {(255, 60, 60)}
    masks[1, 300:] = 255
    assert len(colours(contact_sheet([task(masks)], 1)) - plain) > 1


def test_rows_have_so_many_tasks():
    one = task(torch.ones(3, 40, 60, dtype=torch.uint8))
    sizes = [contact_sheet([one] * count, 2).size for count in (1, 2, 3)]
    assert sizes[0][0] < sizes[1][0] == sizes[2][0]
    assert sizes[0][1] == sizes[1][1] < sizes[2][1]
    # A support and two query frames.
    assert sizes[0][0] == 3 * 300 + 2 * 2


def test_the_sheet_shows_the_tasks_of_the_command_line(disk, labels, capsys):
    for i in range(3):
        disk.frame(f"images/{i}.jpg", value=60 * i)
        disk.mask(f"masks/{i}.png", labels(1))
    data = ("dataset=images", f"dataset.root={disk.root}")
    sheets = []
    for seed in ("1", "1", "2"):
        out = disk.root / "out/sheet.png"
        assert main(["show", *data, f"seed={seed}", "--out", str(out), "--count", "4"]) == 0
        sheets.append(np.asarray(Image.open(out)))
    assert "4 tasks of 3 objects" in capsys.readouterr().out
    assert np.array_equal(sheets[0], sheets[1])
    assert not np.array_equal(sheets[0], sheets[2])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--out", "sheet.txt"), "a sheet is a .png or .jpg file"),
        (("--out", "sheet.png", "--count", "0"), "at least one task"),
        (("dataset=davis2016", "--out", "sheet.png"), "dataset.root has no value"),
        (("dataset.roots=x", "--out", "sheet.png"), "dataset.roots"),
    ],
)
def test_mistakes_are_one_sentence(arguments, said, capsys):
    assert main(["show", *arguments]) == 2
    assert said in capsys.readouterr().err
