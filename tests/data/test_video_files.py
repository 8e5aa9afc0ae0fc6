"""Video files: frames, sizes and times as a player shows them; masks; a sentence for what is none."""

import copy
import gc
import logging
import pickle
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import SIZE, clip, column, picture, turn
from PIL import Image

from eosvos.config.data import Folder, Tasks, Video
from eosvos.data import container
from eosvos.data.folder import folder_sequences
from eosvos.data.task_source import TrainingSet, list_objects
from eosvos.data.tasks import TaskSampler
from eosvos.data.video import VideoFile, video_sequences
from eosvos.errors import UserError


def save_mask(path: Path, object_id: int = 1, size: tuple[int, int] = SIZE) -> Path:
    labels = np.zeros(size, np.uint8)
    labels[24:40, :8] = object_id
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels).save(path)
    return path


def video(path: Path, size: tuple[int, int] = SIZE, **options) -> VideoFile:
    mask = save_mask(path.parent / "mask.png", size=size)
    (found,) = video_sequences(Video(video=str(path), masks=str(mask), **options))
    return found


def shown(sequence: VideoFile, t: int) -> np.ndarray:
    return sequence.checked_image(t).permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.avi", "libx264"),
        ("b.avi", "mpeg4"),
        ("a.webm", "libvpx-vp9"),
        ("a.gif", "gif"),
    ],
)
def test_every_container_gives_its_frames_in_order(tmp_path, name, codec):
    sequence = video(clip(tmp_path / name, codec=codec))
    assert (sequence.name, sequence.size, sequence.num_frames) == (name[0], SIZE, 12)
    for t in range(12):
        image = shown(sequence, t)
        assert abs(column(image) - 4 * t) <= 2
        assert np.abs(image.astype(int) - picture(t)).mean() < 20
    assert column(shown(sequence, 3)) in (10, 11, 12, 13, 14), "and backwards"
    assert [float(time) for time in sequence.frame_times[:3]] == pytest.approx(
        [float(sequence.frame_times[0]) + t / 25 for t in range(3)]
    )


def test_pictures_are_turned_and_stretched_as_a_player_does(tmp_path):
    sequence = video(clip(tmp_path / "wide.mp4", aspect=Fraction(3, 2)), (48, 96))
    assert sequence.size == (48, 96)
    assert shown(sequence, 0)[8, 26].argmax() == 0, "the corner is 30 wide"
    turned = video(turn(clip(tmp_path / "turned.mp4")), (64, 48))
    assert turned.size == (64, 48)
    image = shown(turned, 0)
    assert image[5, 40].argmax() == 0, "the red corner is on the right, as turned clockwise"
    assert np.abs(image.astype(int) - np.rot90(picture(0), -1)).mean() < 20


def test_uneven_times_are_kept(tmp_path):
    stamps = [0, 1, 2, 50, 51, 100]
    sequence = video(clip(tmp_path / "a.mp4", length=6, stamps=stamps))
    assert list(sequence.frame_times) == [Fraction(stamp, 100) for stamp in stamps]


@pytest.mark.parametrize(
    ("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {}), ("a.avi", {})]
)
def test_a_video_that_breaks_off_ends_there_with_one_warning(tmp_path, name, options, caplog):
    path = clip(tmp_path / name, options=options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.9)])
    with caplog.at_level(logging.WARNING):
        sequence = video(path)
        assert 0 < sequence.num_frames < 12
        for t in range(sequence.num_frames):
            assert abs(column(shown(sequence, t)) - 4 * t) <= 2
    (warning,) = caplog.messages
    assert f"{name} is broken or cut off: only the {sequence.num_frames} frames before" in warning


def test_where_an_avi_file_is_broken_in_between_the_frame_before_stands(tmp_path):
    path = clip(tmp_path / "a.avi", codec="mjpeg", coding={"strict": "unofficial"})
    with container.opened(path) as (file, stream):
        spoilt = [(packet.pos, packet.size) for packet in file.demux(stream)][5]
    content = bytearray(path.read_bytes())
    content[spoilt[0] : sum(spoilt)] = bytes(spoilt[1])
    path.write_bytes(content)
    sequence = video(path)
    columns = [column(shown(sequence, t)) for t in range(sequence.num_frames)]
    assert columns == pytest.approx([0, 4, 8, 12, 16, 16, *range(24, 48, 4)], abs=2)


def test_listing_keeps_no_data_of_the_packets(tmp_path, monkeypatch):
    path, last, kept = clip(tmp_path / "a.mp4", length=30), container._last, []

    def counted(*given):
        kept.append(sum(type(one) is av.Packet for one in gc.get_objects()))
        return last(*given)

    monkeypatch.setattr(container, "_last", counted)
    assert len(container.contents(path).stamps) == 30
    assert max(kept) < 5


def test_a_mask_belongs_to_the_frame_that_its_name_or_a_setting_says(tmp_path):
    path = clip(tmp_path / "a.mp4")
    assert video(path).annotated_frames == (0,)
    assert video(path, mask_frame=5).annotated_frames == (5,)
    (named,) = video_sequences(Video(video=str(path), masks=str(save_mask(tmp_path / "007.png"))))
    assert named.annotated_frames == (7,)
    save_mask(tmp_path / "masks/0.png", 3)
    save_mask(tmp_path / "masks/00010.png", 4)
    (several,) = video_sequences(Video(video=str(path), masks=str(tmp_path / "masks")))
    assert {i: several.first_frame(i) for i in several.object_ids} == {3: 0, 4: 10}
    assert set(several.folders) == {path, tmp_path / "masks"}


def test_a_video_and_its_mask_may_be_called_by_one_number(tmp_path):
    for name in ("0001", "0012"):
        clip(tmp_path / f"videos/{name}.mp4")
        save_mask(tmp_path / f"masks/{name}.png")
    found = video_sequences(Video(video=str(tmp_path / "videos"), masks=str(tmp_path / "masks")))
    assert [one.annotated_frames for one in found] == [(0,), (0,)]
    alone = {"video": str(tmp_path / "videos/0012.mp4"), "masks": str(tmp_path / "masks/0012.png")}
    assert video_sequences(Video(**alone))[0].annotated_frames == (0,)
    assert video_sequences(Video(**alone, mask_frame=3))[0].annotated_frames == (3,)


@pytest.mark.parametrize("length", [30, 34, 50])
def test_an_avi_with_frames_before_its_last_key_frame_is_whole(tmp_path, length, caplog):
    path = clip(tmp_path / "a.avi", length, codec="mpeg4", coding={"g": "12", "bf": "2"})
    assert video(path).num_frames == length
    assert not caplog.records


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_one_frame_is_a_whole_video(tmp_path, name, caplog):
    path = clip(tmp_path / name, 1, codec="libx264" if name == "a.mkv" else "libvpx-vp9")
    assert video(path).num_frames == 1
    assert not caplog.records


def test_a_task_leaves_no_video_open(tmp_path):
    found = [video(clip(tmp_path / f"{name}.mp4")) for name in "abcd"]
    tasks = Tasks(augment=None)
    sampler = TaskSampler([TrainingSet(list_objects(found, tasks))], tasks, batch_size=1)
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert len({sampler.sample(i, 0).sequence for i in range(12)}) == 4
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_white_is_the_object_also_after_a_mask_that_is_empty(tmp_path):
    path = clip(tmp_path / "a.mp4")
    for name, value in (("3", 0), ("5", 255)):
        save_mask(tmp_path / f"masks/{name}.png", value)
    (sequence,) = video_sequences(Video(video=str(path), masks=str(tmp_path / "masks")))
    assert (sequence.object_ids, sequence.first_frame(1)) == ((1,), 5)


def test_a_folder_of_videos_has_masks_for_each(tmp_path):
    for name in ("cat", "dog"):
        clip(tmp_path / f"videos/{name}.mp4", length=3)
    save_mask(tmp_path / "masks/cat.png")
    save_mask(tmp_path / "masks/dog/00002.png", 2)
    settings = Video(video=str(tmp_path / "videos"), masks=str(tmp_path / "masks"))
    cat, dog = video_sequences(settings)
    assert (cat.name, cat.annotated_frames, dog.name, dog.annotated_frames) == ("cat", (0,), "dog", (2,))
    (dog,) = video_sequences(settings.model_copy(update={"sequences": ["dog"]}))
    assert dog.object_ids == (2,)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("long.mp4", "libx264", {"g": "20", "bf": "3", "b_strategy": "0", "x264-params": "b-pyramid=normal"}),
        (
            "open.mp4",
            "libx264",
            {"g": "8", "bf": "3", "b_strategy": "0", "x264-params": "open-gop=1:scenecut=0"},
        ),
        (
            "open.mkv",
            "libx264",
            {"g": "8", "bf": "3", "b_strategy": "0", "x264-params": "open-gop=1:scenecut=0"},
        ),
        ("a.webm", "libvpx-vp9", {"g": "8"}),
        ("b.avi", "mpeg4", {"g": "8"}),
        ("a.gif", "gif", {}),
    ],
)
def test_going_back_begins_at_a_key_frame_and_shows_the_very_frames_of_going_forward(
    tmp_path, name, codec, options, monkeypatch
):
    length = 60
    sequence = video(clip(tmp_path / name, length=length, codec=codec, coding=options))
    forward = [sequence.image(t) for t in range(length)]
    read, frames = [], container.frames
    monkeypatch.setattr(
        container, "frames", lambda *given: (read.append(frame) or frame for frame in frames(*given))
    )
    seekable = Path(name).suffix not in (".avi", ".gif")
    for t in reversed(range(length)):
        read.clear()
        assert torch.equal(sequence.image(t), forward[t]), t
        assert not seekable or len(read) <= 30
    for t in (33, 34, 12, 41, 40, 7, 59, 0):
        assert torch.equal(copy.copy(sequence).image(t), forward[t]), t


def test_frames_that_need_others_before_the_key_frame_are_left_out(tmp_path, monkeypatch):
    path = clip(tmp_path / "a.mkv", length=30, codec="libx264", coding={"g": "8", "bf": "3"})
    there = container.contents(path)
    keys = [there.stamps.index(key) for key in there.keys]
    assert len(keys) > 2
    with container.opened(path) as opened:
        frames, leading = container.frames, next(container.frames(*opened))
        # As a decoder may give it that does not know what it lacks.
        monkeypatch.setattr(container, "frames", lambda *given: chain([leading], frames(*given)))
        for key in keys[1:]:
            shown = [t for t, _ in container.pictures(path, there, there.size, key + 1)]
            assert shown == list(range(key, 30))


def test_copies_decode_from_the_start_and_sizes_are_reduced(tmp_path):
    sequence = video(clip(tmp_path / "a.mp4"), short_side=24)
    assert sequence.size == (24, 32)
    assert sequence.mask(0).shape == (24, 32)
    sequence.image(6)
    for twin in (copy.copy(sequence), pickle.loads(pickle.dumps(sequence))):
        assert abs(2 * int((shown(twin, 1)[15, :, 2] > 140).argmax()) - 4) <= 2
        assert twin.fingerprint() == sequence.fingerprint()
    other = video(clip(tmp_path / "b.mp4", length=11), short_side=24)
    assert other.fingerprint() != sequence.fingerprint()


def test_bad_input_is_refused_in_one_sentence(tmp_path):
    path, mask = clip(tmp_path / "a.mp4"), save_mask(tmp_path / "mask.png")
    (tmp_path / "text.mp4").write_text("#EXTM3U\n" + str(path))
    (tmp_path / "mask.jpg").write_bytes(mask.read_bytes())
    for folder in ("empty", "frames", "names"):
        (tmp_path / folder).mkdir()
    for name in ("2", "00002"):
        save_mask(tmp_path / f"twins/{name}.png")
    save_mask(tmp_path / "frames/1.png")
    save_mask(tmp_path / "names/x.png")
    small, black = save_mask(tmp_path / "small.png", size=(24, 32)), save_mask(tmp_path / "black.png", 0)
    for values, said in {
        ("nowhere.mp4", mask, None): r"nowhere\.mp4 does not exist",
        ("text.mp4", mask, None): r"text\.mp4 is no video that can be read .*dataset=folder",
        ("empty", tmp_path, None): r"empty holds no video: \.avi, ",
        ("frames", tmp_path, None): r"frames holds no video: .*dataset=folder dataset\.images=.*frames",
        ("a.mp4", small, None): r"small\.png is 32x24, but .*a\.mp4 is 64x48",
        ("a.mp4", black, None): r"no mask of .*a\.mp4 shows an object",
        ("a.mp4", mask, 12): r"is of frame 12, but the last frame of .*a\.mp4 is 11",
        ("a.mp4", tmp_path / "mask.jpg", None): r"mask\.jpg is no PNG",
        ("a.mp4", tmp_path / "empty", None): "holds no PNG mask",
        ("a.mp4", tmp_path / "names", None): r"x\.png is not named by the number of its frame",
        ("a.mp4", tmp_path / "twins", None): r"00002\.png and 2\.png beside it are both of frame 2: take one",
        ("a.mp4", tmp_path / "frames", 3): "mask_frame=3 is of a single mask",
        ("a.mp4", tmp_path / "none", None): "the folder .*none does not exist",
    }.items():
        name, masks, frame = values
        with pytest.raises(UserError, match=said) as error:
            video_sequences(Video(video=str(tmp_path / name), masks=str(masks), mask_frame=frame))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"a video is dataset=video dataset\.video=.*a\.mp4"):
        folder_sequences(Folder(images=str(path), masks=str(mask)))
