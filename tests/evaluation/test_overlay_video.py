"""What is written of a video file: masks, cutouts, and an overlay with its size, times and sound."""

import logging
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from clips import SIZE, clip, column
from doubles import RecordingAdapter
from PIL import Image

from eosvos.config.data import Video
from eosvos.config.inference import Finetune
from eosvos.data.video import VideoFile, video_sequences
from eosvos.errors import UserError
from eosvos.evaluation.overlay_video import overlay_video
from eosvos.evaluation.results import ResultsFolder
from eosvos.evaluation.scoring import fill_folder
from eosvos.inference.predictor import Predictor

STAMPS = [0, 4, 8, 12, 40, 44, 48, 52, 56, 100]


def made(tmp_path: Path, **options) -> VideoFile:
    """A clip with a mask of its red corner, which the network of the tests finds by its colour."""
    path = clip(tmp_path / "clip.mp4", length=10, stamps=STAMPS, **options)
    mask = np.zeros(SIZE, np.uint8)
    mask[:16, :20] = 2
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (sequence,) = video_sequences(Video(video=str(path), masks=str(tmp_path / "mask.png")))
    return sequence


def filled(tmp_path: Path, sequence: VideoFile, results_format: str) -> ResultsFolder:
    folder = ResultsFolder(tmp_path / "out", "all", results_format)
    folder.open({"seed": 1})
    predictor = Predictor(RecordingAdapter(), Finetune(steps=1, augment=False))
    fill_folder(folder, predictor, [sequence], tell=lambda record: logging.info(record.title))
    return folder


def names(folder: ResultsFolder) -> set[str]:
    return {path.relative_to(folder.root).as_posix() for path in folder.root.rglob("*.*")}


def overlaid(path: Path, sound: Path | None = None) -> Path:
    """The overlay of 12 frames, a tenth of a second each, with the sound of a file."""

    def image(t: int) -> torch.Tensor:
        row, column = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
        block = (column - 20 - t) ** 2 + (row - 20) ** 2 < 100
        return torch.stack([column * 3 + t * 5, row * 4, block * 220]).to(torch.uint8)

    times = tuple(Fraction(t, 10) for t in range(12))
    sequence = SimpleNamespace(size=SIZE, sound=sound, checked_image=image, frame_times=times)
    with overlay_video(path, sequence) as add:
        for t in range(12):
            add(t, torch.zeros(SIZE, dtype=torch.uint8))
    return path


def heard(path: Path) -> tuple[int, float]:
    """Of an overlay with all its frames: the rate of its sound, and seconds of it; 0 without."""
    with av.open(str(path)) as video:
        assert len(list(video.decode(video=0))) == 12
    with av.open(str(path)) as video:
        rates = [stream.rate for stream in video.streams.audio]
        samples = sum(frame.samples for frame in video.decode(audio=0)) if rates else 0
    return (rates[0], samples / rates[0]) if rates else (0, 0)


def test_an_overlay_has_the_same_bytes_each_time(tmp_path):
    assert len({overlaid(tmp_path / "overlay.mp4").read_bytes() for _ in range(10)}) == 1


@pytest.mark.parametrize(
    ("suffix", "rate", "expected"),
    [("avi", 16000, 16000), ("mkv", 16000, 16000), ("mov", 192000, 48000), ("mov", 37800, 48000)],
)
def test_sound_without_a_layout_or_at_a_rate_that_aac_has_not_is_heard(tmp_path, suffix, rate, expected):
    source = clip(tmp_path / f"clip.{suffix}", sound="pcm_s16le", sound_rate=rate)
    rate, seconds = heard(overlaid(tmp_path / "overlay.mp4", source))
    assert rate == expected
    assert seconds == pytest.approx(1, abs=0.1)


def test_sound_that_breaks_off_ends_with_a_warning(tmp_path, caplog):
    source = clip(tmp_path / "clip.mkv", sound="flac")
    content = bytearray(source.read_bytes())
    last = content.rindex(b"\xff\xf8")
    content[last + 4 : last + 40] = bytes(36)
    source.write_bytes(content)
    _, seconds = heard(overlaid(tmp_path / "overlay.mp4", source))
    assert 0 < seconds < 0.9
    [message] = caplog.messages
    assert message.startswith(f"{source}: the sound cannot be read on (")


def test_sound_that_nobody_knows_is_left_out(tmp_path):
    source = clip(tmp_path / "clip.mkv", sound="pcm_s16le")
    source.write_bytes(source.read_bytes().replace(b"A_PCM/INT/LIT", b"A_NEW/INT/LIT"))
    assert heard(overlaid(tmp_path / "overlay.mp4", source)) == (0, 0)


@pytest.mark.parametrize("sound", [None, "aac", "pcm_s16le"])
def test_the_overlay_has_the_times_and_the_sound_of_the_video(tmp_path, sound):
    if sound == "pcm_s16le":
        sequence = made(tmp_path / "mov", sound="aac")
        sequence.sound = clip(tmp_path / "mov/pcm.mov", sound=sound)
    else:
        sequence = made(tmp_path, sound=sound)
    folder = filled(tmp_path, sequence, "overlay")
    assert "clip/00000.png" not in names(folder)
    with av.open(str(folder.root / "clip.overlay.mp4")) as video:
        assert (video.streams.video[0].codec_context.name, video.streams.video[0].height) == ("h264", SIZE[0])
        frames = list(video.decode(video=0))
        assert [round(frame.time, 3) for frame in frames] == [stamp / 100 for stamp in STAMPS]
        for t, frame in enumerate(frames):
            image = frame.to_ndarray(format="rgb24")
            assert abs(column(image) - 4 * t) <= 2
            assert image[8, 8, 1] > 40, "object 2 is green"
            assert image[20, 40].max() < 60
    with av.open(str(folder.root / "clip.overlay.mp4")) as video:
        assert [stream.codec_context.name for stream in video.streams.audio] == (["aac"] if sound else [])
        if sound:
            samples = sum(frame.samples for frame in video.decode(audio=0))
            assert 15000 < samples < 19000


def test_masks_cutouts_and_what_is_written_of_which_format(tmp_path, caplog):
    sequence = made(tmp_path)
    strip, video = "clip.overlay.png", "clip.overlay.mp4"
    rest = {"manifest.json", "clip.record.json", strip}
    folder = filled(tmp_path, sequence, "both")
    assert names(folder) == rest | {video} | {f"clip/{t:05d}.png" for t in range(10)}
    assert np.unique(Image.open(folder.root / "clip/00005.png")).tolist() == [0, 2]
    with caplog.at_level(logging.INFO):
        filled(tmp_path, sequence, "both")
        filled(tmp_path, sequence, "png")
        with pytest.raises(UserError, match="holds clip in another results_format"):
            filled(tmp_path, sequence, "cutout")
        assert names(folder) == rest | {video} | {f"clip/{t:05d}.png" for t in range(10)}
        folder = filled(tmp_path / "cutouts", sequence, "cutout")
    assert caplog.messages == ["clip (finished before)", "clip (finished before)", "clip"]
    assert names(folder) == rest | {f"clip/{t:05d}.cutout.png" for t in range(10)}
    pixels = np.asarray(Image.open(folder.root / "clip/00004.cutout.png"))
    assert pixels.shape == (*SIZE, 4)
    assert pixels[8, 8, 3] == 255
    assert pixels[8, 8, 0] > 200
    assert pixels[40, 40, 3] == 0
    assert torch.equal(torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1), sequence.image(4))
