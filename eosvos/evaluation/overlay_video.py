"""The overlay of a whole video: every frame with its masks laid over it, at its time, with the sound."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from math import lcm
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from torch import Tensor

from eosvos.data.sequence import VideoSequence
from eosvos.evaluation.overlay import blend
from eosvos.writing import whole_file

COPIED_SOUND = ("aac", "ac3", "alac", "eac3", "mp3", "mp3float", "opus")
"""What players take in an mp4 file; other sound becomes AAC."""


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
        waiting = next(sound, None)

        def add(t: int, labels: Tensor) -> None:
            nonlocal waiting
            image = blend(sequence.checked_image(t).permute(1, 2, 0).numpy(), labels.cpu().numpy())
            more = [(0, side % 2) for side in sequence.size]
            frame = av.VideoFrame.from_ndarray(np.pad(image, [*more, (0, 0)], mode="edge"), "rgb24")
            frame.pts, frame.time_base = int(times[t] / clock), clock
            out.mux(stream.encode(frame))
            while waiting is not None and (waiting.dts or 0) * waiting.time_base <= times[t]:
                out.mux(waiting)
                waiting = next(sound, None)

        yield add
        out.mux(stream.encode())
        while waiting is not None:
            out.mux(waiting)
            waiting = next(sound, None)


def _rate(times: tuple[Fraction, ...]) -> int:
    """About how many frames there are in a second."""
    seconds = times[-1] - times[0]
    return max(1, round((len(times) - 1) / seconds)) if seconds else 25


def _sound(path: Path | None, out: OutputContainer) -> Iterator[av.Packet]:
    """The sound of a file, packets for the stream of `out` that the first one makes; none without sound."""
    if path is None:
        return
    with av.open(str(path.absolute())) as container:
        if not container.streams.audio:
            return
        source = container.streams.audio[0]
        if source.codec_context.name in COPIED_SOUND:
            stream = out.add_stream_from_template(source)
            for packet in container.demux(source):
                if packet.dts is not None:
                    packet.stream = stream
                    yield packet
        else:
            encoder = out.add_stream("aac", rate=source.rate, layout=source.layout.name)
            for frame in container.decode(source):
                yield from encoder.encode(frame)
            yield from encoder.encode()
