"""The overlay of a whole video: every frame with its masks laid over it, at its time, with the sound."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import lcm
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from torch import Tensor

from eosvos.data.sequence import VideoSequence
from eosvos.evaluation.overlay import blend
from eosvos.writing import whole_file

COPIED_SOUND = ("aac", "ac3", "alac", "eac3", "mp3", "mp3float", "opus")
"""What players take in an mp4 file; other sound becomes AAC."""
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Samples a second that AAC has and players take; other sound gets the most of them."""

_log = logging.getLogger(__name__)


@contextmanager
def overlay_video(path: Path, sequence: VideoSequence) -> Iterator[Callable[[int, Tensor], None]]:
    """Give what takes (number, label map uint8 [H, W]) of each frame, in order; write an mp4 file of them.

    It has the size of the video (an odd side gets one pixel more, for H.264 wants even ones), the times of
    its frames and its sound.
    """
    times = sequence.frame_times
    clock = Fraction(1, lcm(*(time.denominator for time in times)))
    with whole_file(path) as temporary, av.open(str(temporary), "w", format="mp4") as out:
        # FFmpeg may be built without it. With AVX-512, x264 makes other bytes each time, unless it is held to
        # what all processors do.
        h264 = "libx264" in av.codecs_available
        quality = {"crf": "20", "preset": "veryfast", "x264-params": "cpu-independent=1"} if h264 else {}
        stream = out.add_stream("libx264" if h264 else "mpeg4", rate=_rate(times), options=quality)
        stream.height, stream.width = (side + side % 2 for side in sequence.size)
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = clock
        sound = _sound(sequence.sound, out)
        due = next(sound, None)

        def add(t: int, labels: Tensor) -> None:
            nonlocal due
            image = blend(sequence.checked_image(t).permute(1, 2, 0).numpy(), labels.cpu().numpy())
            more = [(0, side % 2) for side in sequence.size]
            frame = av.VideoFrame.from_ndarray(np.pad(image, [*more, (0, 0)], mode="edge"), "rgb24")
            frame.pts, frame.time_base = int(times[t] / clock), clock
            out.mux(stream.encode(frame))
            while due is not None and due <= times[t]:
                due = next(sound, None)

        yield add
        out.mux(stream.encode())
        for _ in sound:
            pass


def _rate(times: tuple[Fraction, ...]) -> int:
    """About how many frames there are in a second."""
    seconds = times[-1] - times[0]
    return max(1, round((len(times) - 1) / seconds)) if seconds else 25


def _sound(path: Path | None, out: OutputContainer) -> Iterator[Fraction]:
    """Write the sound of a file into a stream of `out` that the first step makes; none without sound.

    Gives the time of each packet, seconds, which the next step writes. Where the sound breaks off, it ends
    with a warning.
    """
    if path is None:
        return
    try:
        with av.open(str(path.absolute())) as container:
            # What FFmpeg does not know has no codec.
            if not container.streams.audio or not (source := container.streams.audio[0]).codec_context:
                return
            copied = source.codec_context.name in COPIED_SOUND
            for packet in (_copied if copied else _encoded)(container, source, out):
                yield (packet.dts or 0) * packet.time_base
                out.mux(packet)
    except av.FFmpegError as error:
        _log.warning(
            "%s: the sound cannot be read on (%s), the overlay goes on without it", path, error.strerror
        )


def _copied(container: InputContainer, source: AudioStream, out: OutputContainer) -> Iterator[av.Packet]:
    """The packets of the sound as they are, for a new stream of `out`."""
    stream = out.add_stream_from_template(source)
    for packet in container.demux(source):
        if packet.dts is not None:
            packet.stream = stream
            yield packet


def _encoded(container: InputContainer, source: AudioStream, out: OutputContainer) -> Iterator[av.Packet]:
    """The packets of the sound as AAC, for a new stream of `out`."""
    # Files may tell how many channels there are, but not which: their layout has no name that is known.
    layout = "mono" if source.layout.nb_channels == 1 else "stereo"
    rate = source.rate if source.rate in RATES else max(RATES)
    encoder = out.add_stream("aac", rate=rate, layout=layout)
    for frame in container.decode(source):
        yield from encoder.encode(frame)
    yield from encoder.encode()
