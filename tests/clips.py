"""Small video files, made with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (48, 64)
"""Height and width of the pictures in them."""


def picture(t: int) -> np.ndarray:
    """Frame t: a blue block that moves four columns a frame, round and round; a red corner, [H, W, 3]."""
    image = np.full((*SIZE, 3), 30, np.uint8)
    image[:16, :20] = 250, 0, 0
    left = 4 * t % 60
    image[24:40, left : left + 8] = 0, 0, 250
    return image


def column(image: np.ndarray) -> int:
    """Where the block of an image [H, W, 3] begins."""
    return int((image[30, :, 2] > 140).argmax())


def clip(
    path: Path,
    length: int = 12,
    codec: str = "libx264",
    stamps: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    sound: str | None = None,
    sound_rate: int = 16000,
    options: dict[str, str] | None = None,
    coding: dict[str, str] | None = None,
) -> Path:
    """Write a video of 25 frames a second, or shown at `stamps` in 1/100 s, with a second of `sound`, a tone.

    options: of the container. coding: of the codec.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    clock = Fraction(1, 25) if path.suffix == ".avi" else Fraction(1, 100)
    with av.open(str(path), "w", options=options or {}) as out:
        coding = coding or ({"g": "4"} if codec == "libx264" else {})
        video = out.add_stream(codec, rate=25, options=coding)
        video.height, video.width, video.pix_fmt = *SIZE, "rgb8" if codec == "gif" else "yuv420p"
        video.time_base = video.codec_context.time_base = clock
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        audio = out.add_stream(sound, rate=sound_rate, layout="mono") if sound else None
        for t in range(length):
            frame = av.VideoFrame.from_ndarray(picture(t), "rgb24")
            frame.pts, frame.time_base = int(Fraction(t, 25) / clock) if stamps is None else stamps[t], clock
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(sound_rate) * 3200 / sound_rate).astype(np.float32)[None] / 2
            frame = av.AudioFrame.from_ndarray((tone * 32767).astype(np.int16), "s16", "mono")
            frame.sample_rate, frame.pts = sound_rate, 0
            frames = av.AudioResampler(audio.codec_context.format, "mono", sound_rate).resample(frame)
            for packet in (packet for one in [*frames, None] for packet in audio.encode(one)):
                out.mux(packet)
    return path


def turn(path: Path) -> Path:
    """Say in an mp4 file that its pictures are shown turned by a quarter, clockwise."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 40
    one, none = (1 << 16).to_bytes(4, "big"), bytes(4)
    minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
    content[matrix : matrix + 20] = none + one + none + minus + none
    path.write_bytes(content)
    return path
