import numpy as np
import pytest
from PIL import Image

from eosvos.config.data import Folder
from eosvos.data import folder
from eosvos.data.folder import evaluation_only_masks_message, folder_sequences
from eosvos.data.layouts import select_names
from eosvos.errors import UserError


@pytest.fixture
def video(disk, labels):
    """Frames 1, 2, 10 and masks for the first and the last."""
    for name in ("1", "2", "10"):
        disk.frame(f"frames/{name}.jpg")
    disk.mask("masks/1.png", labels(1))
    disk.mask("masks/10.png", labels(2))
    return disk


def open_folder(video, **arguments):
    paths = {
        name: str(arguments.pop(name, video.root / folder))
        for name, folder in (("images", "frames"), ("masks", "masks"))
    }
    return folder_sequences(Folder(**paths, **arguments))


def test_a_folder_of_frames_is_one_sequence_in_the_order_of_numbers(video):
    (sequence,) = open_folder(video)
    assert sequence.name == "frames"
    assert sequence.frame_names == ("1", "2", "10")
    assert sequence.annotated_frames == (0, 2)
    assert (sequence.object_ids, sequence.first_frame(2)) == ((1, 2), 2)


def test_one_file_is_the_mask_of_its_frame_or_of_the_first(video, labels):
    assert open_folder(video, masks=video.root / "masks/10.png")[0].annotated_frames == (2,)
    (sequence,) = open_folder(video, masks=video.mask("my drawing.png", labels(1)))
    assert sequence.annotated_frames == (0,)


@pytest.mark.parametrize("name", ["frame_00", "f"])
def test_one_file_that_is_a_number_is_the_mask_of_the_frame_of_that_number(disk, labels, name):
    for t in (3, 4, 12):
        disk.frame(f"frames/{name}{t}.jpg")
    (sequence,) = open_folder(disk, masks=disk.mask("0012.png", labels(1)))
    assert sequence.annotated_frames == (2,)
    with pytest.raises(UserError, match=r"7\.png is of frame 7, and .*frames has none of that number"):
        open_folder(disk, masks=disk.mask("7.png", labels(1)))


def test_black_and_white_of_one_bit_is_white_on_black(video, labels):
    video.mask("masks/1.png", labels(255), "1")
    video.mask("masks/10.png", labels(255), "L")
    (sequence,) = open_folder(video)
    for t in (0, 2):
        np.testing.assert_array_equal(sequence.mask(t), labels(1))


def test_black_and_white_beside_palette_ids_is_refused(video, labels):
    video.mask("masks/10.png", labels(255), "L")
    with pytest.raises(UserError, match=r"10\.png is black and white, but .*1\.png of the same video has"):
        open_folder(video)


def test_255_alone_stays_ignored_after_grey_ids(video, labels):
    video.mask("masks/1.png", labels(2), "L")
    video.mask("masks/10.png", labels(255), "L")
    np.testing.assert_array_equal(open_folder(video)[0].mask(2), labels(255))


def test_255_stays_ignored_in_a_palette_mask_after_white_ones(video, labels):
    video.mask("masks/1.png", labels(255), "L")
    video.mask("masks/10.png", labels(2) + labels(255, at=(8, 20)))
    (sequence,) = open_folder(video)
    np.testing.assert_array_equal(sequence.mask(2), labels(2) + labels(255, at=(8, 20)))


def test_an_object_has_one_colour_in_all_palettes(video, labels):
    path = video.mask("masks/10.png", labels(1))
    assert open_folder(video)[0].object_ids == (1,)
    image = Image.open(path)
    image.putpalette([0, 0, 0, 0, 200, 0])
    image.save(path)
    with pytest.raises(UserError, match=r"object 1 has another colour in .*10\.png than in .*1\.png"):
        open_folder(video)


def test_a_white_on_black_mask_is_object_1(video, labels):
    (sequence,) = open_folder(video, masks=video.mask("first.png", labels(255), "L"))
    np.testing.assert_array_equal(sequence.mask(0), labels(1))


def test_a_grey_mask_with_ids_keeps_them(video, labels):
    mask = labels(3)
    mask[0, 0] = 255
    (sequence,) = open_folder(video, masks=video.mask("first.png", mask, "L"))
    np.testing.assert_array_equal(sequence.mask(0), mask)


@pytest.mark.parametrize("softness", [2, 17])
def test_smooth_edges_are_no_ids(video, labels, softness):
    soft = labels(255).astype(int)
    soft[7, 8:16] = np.linspace(0, 255, softness + 2)[1:-1].astype(int)[np.arange(8) % softness]
    video.mask("masks/1.png", soft, "L")
    with pytest.raises(UserError, match=r"masks/1\.png holds white and .* threshold it .* palette PNG"):
        open_folder(video)


def test_a_palette_mask_may_use_any_ids(video, labels):
    many = np.kron((np.arange(16 * 16) % 255).reshape(16, 16), np.ones((3, 3)))
    for name in ("1", "2", "10"):
        video.frame(f"frames/{name}.jpg", many.shape)
    assert len(open_folder(video, masks=video.mask("first.png", many))[0].object_ids) == 254


def test_white_is_the_object_in_all_masks_of_a_video_and_other_ids_stay(video, labels):
    video.mask("masks/1.png", labels(255), "L")
    video.mask("masks/10.png", labels(255) + labels(2, at=(8, 20)), "L")
    (sequence,) = open_folder(video)
    assert sequence.object_ids == (1, 2)
    np.testing.assert_array_equal(sequence.mask(2), labels(1) + labels(2, at=(8, 20)))


def test_white_is_the_object_also_after_a_mask_that_is_empty(video, labels):
    video.mask("masks/1.png", labels(0), "L")
    video.mask("masks/10.png", labels(255), "L")
    (sequence,) = open_folder(video)
    assert (sequence.object_ids, sequence.first_frame(1)) == ((1,), 2)


@pytest.mark.parametrize("name", ["mask.png", "2.png"])
def test_a_mask_among_the_frames_is_no_frame(video, labels, name):
    (sequence,) = open_folder(video, masks=video.mask(f"frames/{name}", labels(1)))
    assert sequence.frame_names == ("1", "2", "10")
    assert sequence.annotated_frames == ((1,) if name == "2.png" else (0,))


def test_frames_and_masks_may_lie_in_one_folder(video, labels):
    video.mask("frames/2.png", labels(3))
    (sequence,) = open_folder(video, masks=video.root / "frames")
    assert (sequence.frame_names, sequence.annotated_frames) == (("1", "2", "10"), (1,))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "my clip.mp4",
            r"my clip\.mp4 is a file, not a folder: a video is dataset=video dataset\.video='.*my clip\.mp4'",
        ),
        (
            "1.jpg",
            r"1\.jpg is a file, not a folder: set images to a folder of frames.*such as .*frames",
        ),
    ],
)
def test_a_file_is_no_folder_of_frames(video, file, message):
    path = video.root / "frames" / file
    path.touch()
    with pytest.raises(UserError, match=message):
        open_folder(video, images=path)


def test_a_folder_without_frames_says_what_is_read_and_what_is_there(video):
    for name in ("tiffs/1.tif", "tiffs/2.TIF", "tiffs/notes", "videos/clip/1.gif"):
        video.text(name, "")
    names = r"\.bmp, \.jpeg, \.jpg, \.png, \.webp are read; there are"
    with pytest.raises(UserError, match=rf"neither frames nor folders \({names} 2 \.tif, 1 without suffix\)"):
        open_folder(video, images=video.root / "tiffs")
    with pytest.raises(UserError, match=rf"clip holds no frames \({names} 1 \.gif\)"):
        open_folder(video, images=video.root / "videos")


def test_one_mask_is_of_one_video(video, labels):
    mask = video.mask("first.png", labels(1))
    for name in ("a", "b"):
        video.frame(f"videos/{name}/1.jpg")
    with pytest.raises(
        UserError, match=r"first\.png belongs to one video.*videos is a folder .*videos/a, or"
    ):
        open_folder(video, images=video.root / "videos", masks=mask)


def test_masks_that_are_jpeg_are_named(video, labels):
    video.mask("masks/2.jpg", labels(255), "L")
    with pytest.raises(UserError, match=r"masks/2\.jpg is no PNG file.*JPEG blurs ids\): save it as one"):
        open_folder(video)


def test_a_folder_named_like_a_frame_is_none(video):
    (video.root / "frames/3.jpg").mkdir()
    assert open_folder(video)[0].frame_names == ("1", "2", "10")


def test_a_link_to_nothing_is_a_missing_frame(video):
    (video.root / "frames/3.jpg").symlink_to(video.root / "gone.jpg")
    with pytest.raises(UserError, match=r"3\.jpg is missing"):
        open_folder(video)


def test_home_is_expanded(video, monkeypatch):
    monkeypatch.setenv("HOME", str(video.root))
    assert open_folder(video, images="~/frames", masks="~/masks")[0].name == "frames"
    assert open_folder(video, images="~/frames", masks="~/masks/10.png")[0].annotated_frames == (2,)


def test_names_count_once(video):
    assert len(open_folder(video, sequences=["frames", "frames"])) == 1


def test_masks_for_evaluation_only_are_named(video, labels):
    assert evaluation_only_masks_message(open_folder(video)) is None
    video.mask("masks/10.png", labels(1))
    assert "correct nothing" in evaluation_only_masks_message(open_folder(video))
    videos = open_folder(video)
    for mask in (video.root / "masks").iterdir():
        mask.unlink()
    assert str(video.root / "masks/10.png") in evaluation_only_masks_message(videos), "no mask is read again"


def test_a_single_mask_must_be_png(video, labels):
    with pytest.raises(UserError, match=r"first\.jpg is no PNG file"):
        open_folder(video, masks=video.mask("first.jpg", labels(255), "L"))


def test_two_files_of_one_frame_are_named(video, labels):
    video.mask("frames/2.png", labels(1))
    with pytest.raises(UserError, match=r"frames/2\.jpg and 2\.png beside it"):
        open_folder(video)


def test_the_frames_of_a_long_video_are_not_listed_again_for_each_mask(video, monkeypatch):
    chosen = []
    monkeypatch.setattr(folder, "select_names", lambda *given: chosen.append(given) or select_names(*given))
    assert open_folder(video)[0].annotated_frames == (0, 2)
    assert len(chosen) == 1


def test_masks_can_be_chosen_by_frame(video):
    assert open_folder(video, annotated=["1"])[0].object_ids == (1,)
    with pytest.raises(UserError, match=r"mask for frame '11'.*did you mean"):
        open_folder(video, annotated=["11"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": "nowhere"}, r"set images"),
        ({"masks": "nowhere"}, r"set masks"),
        ({"sequences": ["frame"]}, "did you mean frames"),
    ],
)
def test_wrong_settings_are_named_with_a_remedy(video, arguments, message):
    with pytest.raises(UserError, match=message):
        open_folder(video, **arguments)


def test_masks_without_a_frame_empty_folders_and_empty_masks(video, disk, labels):
    disk.mask("masks/12.png", labels(1))
    with pytest.raises(UserError, match=r"12\.png has no frame.*did you mean"):
        open_folder(video)
    (disk.root / "empty").mkdir()
    with pytest.raises(UserError, match="neither frames nor folders"):
        open_folder(video, images=disk.root / "empty")
    with pytest.raises(UserError, match="has no mask: add one"):
        open_folder(video, masks=disk.root / "empty")
    with pytest.raises(UserError, match=r"no mask .* shows an object \(0 is .* 255 is ignored\): correct"):
        open_folder(video, masks=disk.mask("white.png", labels(255)))
    (disk.root / "videos" / "clip").mkdir(parents=True)
    with pytest.raises(UserError, match="clip holds no frames"):
        open_folder(video, images=disk.root / "videos")


def test_real_videos(shared):
    top = shared / "videos"
    (bike,) = folder_sequences(
        Folder(images=str(top / "images"), masks=str(top / "masks"), sequences=["bike"])
    )
    assert (bike.object_ids, bike.num_frames, bike.size) == ((1, 2), 4, (480, 854))
    judo = Folder(images=str(top / "images/judo"), masks=str(top / "masks/judo"))
    with pytest.raises(UserError, match=r"masks/judo/00005\.png is 853x480"):
        folder_sequences(judo)
    (good,) = folder_sequences(judo.model_copy(update={"annotated": ["00000", "00008", "00013"]}))
    assert (good.object_ids, good.first_frame(3), good.first_frame(4)) == ((1, 3, 4), 8, 13)


def test_a_link_to_a_mask_among_the_frames_is_that_mask(video, labels):
    (video.root / "link.png").symlink_to(video.mask("frames/mask.png", labels(1)))
    [sequence] = open_folder(video, masks=str(video.root / "link.png"))
    assert sequence.frame_names == ("1", "2", "10")


@pytest.mark.parametrize("key", ["images", "masks"])
def test_names_that_no_file_system_has_are_refused(video, key):
    with pytest.raises(UserError, match="cannot be read"):
        open_folder(video, **{key: "x" * 300})


def test_a_link_to_itself_is_named(video):
    loop = video.root / "frames" / "9.png"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=r"9\.png cannot be read"):
        open_folder(video)
