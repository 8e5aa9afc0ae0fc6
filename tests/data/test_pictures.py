"""Pictures of every kind that users have, written for real, and what is read of them."""

import os
import struct
import zlib
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageDraw, ImageFilter

from eosvos.config.data import Folder
from eosvos.data.files import FileSequence
from eosvos.data.folder import folder_sequences
from eosvos.data.pictures import read_header, read_image, read_labels
from eosvos.data.sequence import visible_objects
from eosvos.errors import UserError

RAMP = np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)
SMOOTH = r"look like smooth edges and no ids: threshold it .* palette PNG without smooth edges"


def colours():
    return np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)


def palette_picture(labels, palette):
    picture = Image.new("P", labels.shape[::-1])
    picture.putpalette(palette)
    picture.putdata(labels.ravel().tolist())
    return picture


def read(path):
    """A frame as it is read, after its header was seen to be of the same size."""
    pixels = read_image(path)
    assert read_header(path)[0] == pixels.shape[:2]
    return pixels


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_16_bit_greys_are_reduced_from_their_whole_range(tmp_path, mode):
    values = (RAMP.astype(np.uint16) << 8) + 77
    values[0, 0], values[0, 1] = 65535, 0
    values = values.astype(">u2" if mode == "I;16B" else "<u2")
    Image.frombytes(mode, (32, 24), values.tobytes()).save(tmp_path / "a.png")
    pixels = read(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.repeat((values >> 8)[..., None], 3, -1))
    assert (pixels[0, 0, 0], pixels[0, 1, 0]) == (255, 0)


def test_16_bit_colours_are_reduced_alike(tmp_path):
    import cv2

    values = (colours().astype(np.uint16) << 8) + 77
    cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1])
    np.testing.assert_array_equal(read(tmp_path / "a.png"), colours())


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("1", "png"), ("1", "bmp"), ("L", "jpg"), ("L", "webp"), ("P", "png"), ("CMYK", "jpg")],
)
def test_frames_of_every_mode_look_as_they_do_elsewhere(tmp_path, mode, suffix):
    picture = Image.fromarray(colours()).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    shown = Image.open(tmp_path / f"a.{suffix}").convert("RGB")
    np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}"), shown)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparent_pixels_lie_on_black(tmp_path, mode):
    alpha = np.where(RAMP < 100, 0, 255).astype(np.uint8)
    grey = np.where(alpha, 200, 90).astype(np.uint8)
    if mode == "P":
        picture = palette_picture((alpha > 0).astype(int), [90] * 3 + [200] * 3)
        picture.save(tmp_path / "a.png", transparency=0)
    elif mode == "L":
        Image.fromarray(grey).save(tmp_path / "a.png", transparency=90)
    else:
        picture = Image.fromarray(grey).convert(mode)
        picture.putalpha(Image.fromarray(alpha))
        picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 1], np.where(alpha, 200, 0))


def test_half_transparent_pixels_are_half_as_bright(tmp_path):
    Image.new("RGBA", (4, 4), (200, 100, 0, 128)).save(tmp_path / "a.png")
    assert abs(read(tmp_path / "a.png")[0, 0].astype(int) - (100, 50, 0)).max() <= 1


@pytest.mark.parametrize(("name", "format_"), [("a.png", "TIFF"), ("a.jpg", "GIF")])
def test_other_formats_are_refused_whatever_they_are_called(tmp_path, name, format_):
    Image.fromarray(RAMP.astype(np.float32) if format_ == "TIFF" else RAMP).save(tmp_path / name, format_)
    for function in (read_header, read_image, read_labels):
        with pytest.raises(UserError, match=f"{name} is a {format_} file, .*: save it as PNG or JPEG"):
            function(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_files_of_several_pictures_are_refused(tmp_path, suffix):
    first, *others = (Image.new("RGB", (32, 24), (value, 0, 0)) for value in (10, 90, 200))
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=others)
    for function in (read_header, read_image):
        with pytest.raises(UserError, match="holds 3 pictures, not one: save each"):
            function(tmp_path / f"a.{suffix}")


def turned(pixels, orientation):
    """What a viewer shows, by the definition: where row 0 and column 0 of the file are on the screen."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],  # top, right
        3: lambda a: a[::-1, ::-1],  # bottom, right
        4: lambda a: a[::-1],  # bottom, left
        5: lambda a: np.swapaxes(a, 0, 1),  # left, top
        6: lambda a: np.swapaxes(a, 0, 1)[:, ::-1],  # right, top
        7: lambda a: np.swapaxes(a, 0, 1)[::-1, ::-1],  # right, bottom
        8: lambda a: np.swapaxes(a, 0, 1)[::-1],  # left, bottom
    }[orientation](pixels)


def exif(orientation):
    content = Image.Exif()
    content[ExifTags.Base.Orientation] = orientation
    return content


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("height", [24, 32])
def test_frames_are_turned_as_viewers_show_them(tmp_path, suffix, orientation, height):
    file = tmp_path / f"a.{suffix}"
    Image.fromarray(np.resize(colours(), (height, 32, 3))).save(file, exif=exif(orientation))
    stored = np.asarray(Image.open(file).convert("RGB"))
    np.testing.assert_array_equal(read(file), turned(stored, orientation))


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_masks_are_turned_like_their_frames(disk, labels, mode, orientation):
    Image.fromarray(colours()).save(disk.root / "a.jpg", exif=exif(orientation))
    path = disk.mask("m.png", labels(3, at=(0, 20)), mode)
    Image.open(path).save(path, exif=exif(orientation))
    mask = FileSequence("s", [disk.root / "a.jpg"], {0: path}).mask(0)
    np.testing.assert_array_equal(mask, turned(labels(3, at=(0, 20)), orientation))


def test_headers_of_turned_pictures_are_read_without_decoding(tmp_path):
    for suffix in ("jpg", "png"):
        file = tmp_path / f"a.{suffix}"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)).save(
            file, exif=exif(6)
        )
        file.write_bytes(file.read_bytes()[:-6000])
        assert read_header(file)[0] == (320, 240)
        with pytest.raises(UserError, match="cannot be read as an image"):
            read_image(file)


def drawing(colours, size, blur=0.0):
    """Discs side by side, drawn large and reduced, so that their edges are smooth."""
    large = Image.new("RGB", (4 * size * len(colours), 4 * size))
    for k, colour in enumerate(colours):
        place = [4 * size * (k + 0.15), 4 * size * 0.2, 4 * size * (k + 0.8), 4 * size * 0.85]
        ImageDraw.Draw(large).ellipse(place, fill=colour)
    small = large.resize((size * len(colours), size), Image.Resampling.BILINEAR)
    return small.filter(ImageFilter.GaussianBlur(blur))


def quantised(picture, count):
    """A palette picture whose background, in the corner, has index 0."""
    picture = picture.quantize(count)
    background = int(np.asarray(picture)[0, 0])
    order = [background, *(i for i in range(count) if i != background)]
    return picture.remap_palette(order)


@pytest.mark.parametrize("size", [24, 60, 120, 400])
@pytest.mark.parametrize("count", [5, 8, 16, 256])
@pytest.mark.parametrize("colours", [["white"], ["red"], [(128, 0, 0)], ["red", "lime"]])
def test_smooth_edges_of_palette_masks_are_no_ids(tmp_path, size, count, colours):
    quantised(drawing(colours, size), count).save(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").mode == "P"
    with pytest.raises(UserError, match=rf"m\.png holds .* {SMOOTH}"):
        read_labels(tmp_path / "m.png")


@pytest.mark.parametrize("colour", ["white", (200, 200, 200)])
@pytest.mark.parametrize("blur", [0, 1.5])
def test_smooth_edges_of_grey_masks_are_no_ids(tmp_path, colour, blur):
    drawing([colour], 60, blur).convert("L").save(tmp_path / "m.png")
    with pytest.raises(UserError, match=SMOOTH):
        read_labels(tmp_path / "m.png")


def test_smooth_edges_of_a_later_mask_are_found_before_work(disk, labels):
    for t in range(2):
        disk.frame(f"frames/{t}.jpg", (60, 60))
    disk.mask("masks/0.png", labels(255, size=(60, 60)), "L")
    drawing(["white"], 60).convert("L").save(disk.root / "masks/1.png")
    with pytest.raises(UserError, match=rf"1\.png holds .*{SMOOTH}"):
        folder_sequences(Folder(images=str(disk.root / "frames"), masks=str(disk.root / "masks")))


def test_small_thin_and_touching_objects_are_objects(tmp_path, labels):
    dots = np.kron(np.arange(100).reshape(10, 10), np.pad(np.ones((3, 3)), 1)).astype(np.uint8)
    sticks = labels(1)
    sticks[0:8, 10], sticks[16:20, 12], sticks[12, 16:20] = 3, 4, 5
    cells = np.kron(np.arange(36).reshape(6, 6), np.ones((4, 4))).astype(np.uint8)
    for mask in (dots, sticks, cells):
        for picture in (Image.fromarray(mask), palette_picture(mask, [i // 3 for i in range(768)])):
            picture.save(tmp_path / "m.png")
            np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), mask)


def test_real_masks_are_masks(shared):
    files = [*(shared / "davis2016/Annotations").rglob("*0.png"), *(shared / "videos/masks").rglob("*.png")]
    files += (shared / "real/videos/Annotations").rglob("*9.png")
    assert len(files) > 100
    assert all(set(visible_objects(read_labels(file))) <= set(range(1, 255)) for file in files)


@pytest.mark.parametrize("merge_objects", [False, True])
def test_a_palette_whose_black_is_not_the_background_is_refused(tmp_path, labels, merge_objects):
    white_first = palette_picture(1 - labels(1), [250, 252, 255, 2, 1, 0])
    white_first.save(tmp_path / "m.png")
    with pytest.raises(
        UserError, match=r"m\.png is a palette image .* while 1 is: save it .* begins with black"
    ):
        read_labels(tmp_path / "m.png", merge_objects)


def test_palettes_may_have_black_where_no_pixel_is_and_colours_alone(tmp_path, labels):
    for palette in ([250] * 3 + [9, 200, 9] + [0] * 3, [0, 0, 0, 0, 0, 0], [3, 3, 3, 250, 250, 250]):
        palette_picture(labels(1), palette).save(tmp_path / "m.png")
        np.testing.assert_array_equal(read_labels(tmp_path / "m.png"), labels(1))


def test_a_mask_called_png_that_is_none_is_refused(tmp_path, labels):
    Image.fromarray(labels(1)).save(tmp_path / "mask.png", format="JPEG")
    with pytest.raises(UserError, match=r"mask\.png is no PNG file, whose values are exact"):
        read_labels(tmp_path / "mask.png")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(UserError, match=r"0\.png is no file: replace it"):
        read_header(tmp_path / "0.png")


@pytest.mark.parametrize("bits", [2, 4])
def test_greys_of_few_bits_are_no_ids_but_may_be_black_and_white(tmp_path, bits):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    white = 2**bits - 1
    for value, said in ((1, "grey with 2 or 4 bits"), (white, None)):
        row = b"\0" + bytes([value << (8 - bits)])
        parts = (
            (b"IHDR", struct.pack(">2I5B", 8 // bits, 1, bits, 0, 0, 0, 0)),
            (b"IDAT", zlib.compress(row)),
            (b"IEND", b""),
        )
        (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
        with pytest.raises(UserError, match=said) if said else nullcontext():
            assert read_labels(tmp_path / "m.png")[0, 0] == 255
