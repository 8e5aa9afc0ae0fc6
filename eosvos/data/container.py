"""Reads video files with PyAV: their frames in order, one at a time, as a player shows them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from eosvos.errors import UserError

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".gif"}

BROKEN = "%s is broken or cut off: only the %d frames before are read"

# Others play lists, which name further files, or take any text for pictures.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif"

# Those whose index says where key frames are.
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contents:
    """What is in a video file.

    size: (height, width) as it is shown. rotation: counterclockwise, in quarters. stamps: when each frame is
    shown, ascending, in units of `clock` seconds. in_turn: whether frames are told by their order, as the
    file gives them the times of others. keys: when each key frame is shown; none where the file cannot be
    read from there. broken: whether there were more frames.
    """

    size: tuple[int, int]
    rotation: int
    stamps: tuple[int, ...]
    clock: Fraction
    in_turn: bool
    keys: tuple[int, ...]
    broken: bool


class _Packet(NamedTuple):
    """What is kept of a packet, whose data may be large."""

    stamp: int
    is_keyframe: bool
    is_corrupt: bool
    is_discard: bool
    duration: int


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A video file and the stream of its pictures; raises UserError if it is none, whatever its name."""
    if not path.is_file():
        raise UserError(f"the video {path} does not exist: name a file, or a folder of videos")
    try:
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        container = av.open(str(path.absolute()), options=options)
    except (av.FFmpegError, UnicodeError) as error:
        raise UserError(
            f"{path} is no video that can be read ({getattr(error, 'strerror', error)}): give one of "
            f"{', '.join(sorted(VIDEO_SUFFIXES))}, whole; frames that are pictures are dataset=folder"
        ) from error
    with container:
        if not container.streams.video:
            raise UserError(f"{path} holds no pictures, only sound or text: give a video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def contents(path: Path) -> Contents:
    """What is in a video file: nothing is decoded but the first frame, and the last ones from a key frame on.

    What is broken at the end is left out, with a warning. Raises UserError if it has none or is no video.
    """
    with opened(path) as (container, stream):
        first = next(frames(container, stream), None)
        if first is None:
            raise UserError(f"{path} has no frame that can be decoded: replace it")
        clock, aspect = Fraction(stream.time_base or 1), stream.sample_aspect_ratio or 1
        kind = container.format.name
        # AVI says when packets are decoded only, which is when they are shown unless the codec reorders them.
        in_turn = kind == "avi" and stream.codec_context.has_b_frames
    with opened(path) as (container, stream):
        packets = [_listed(packet) for packet in _packets(container, stream) if packet.size]
        listed = max(stream.frames, len(packets)) - sum(packet.is_discard for packet in packets)
        # Matroska says how long it is, but not how many frames; sound may be longer.
        alone = not stream.frames and len(container.streams) == 1
        end = Fraction(container.duration or 0, 1_000_000) / clock if alone else 0
    stamps = _readable(path, packets, None if in_turn else _stamp(first))
    broken = len(stamps) < listed or _shown_until(packets, stamps) < end
    if broken:
        _log.warning(BROKEN, path, len(stamps))
    height, width = first.height, max(1, round(first.width * aspect))
    rotation = round(first.rotation / 90) % 4
    size = (width, height) if rotation % 2 else (height, width)
    return Contents(size, rotation, tuple(stamps), clock, in_turn, _keys(packets, kind), broken)


def _readable(path: Path, packets: list[_Packet], begin: int | None) -> list[int]:
    """When each frame is shown that can be decoded, in order; begin: the first; None: told by their order."""
    whole = [packet for packet in packets if not (packet.is_corrupt or packet.is_discard)]
    start = max(n for n, packet in enumerate(packets) if packet.is_keyframe or n == 0)
    found = _last(path, start)
    # Where frames are told by their order, those may be missing that need others before the key frame.
    if found is None or (begin is None and found[1] < len(packets)):
        found = _last(path, 0)
    last, count = found or (begin or 0, 1)
    stamps = sorted({packet.stamp for packet in whole})
    return stamps[:count] if begin is None else [stamp for stamp in stamps if begin <= stamp <= last]


def _shown_until(packets: list[_Packet], stamps: list[int]) -> float:
    """When the last frame is over: after its own time, or that of the longest before it and a half."""
    longest = max((late - early for early, late in pairwise(stamps)), default=0)
    own = (packet.duration for packet in packets if packet.stamp == stamps[-1])
    return stamps[-1] + max(1.5 * longest, *own)


def _keys(packets: list[_Packet], kind: str) -> tuple[int, ...]:
    """When the key frames are shown from which a file of this kind can be read."""
    return tuple(packet.stamp for packet in packets if packet.is_keyframe and kind in _SEEKABLE)


def pictures(
    path: Path, there: Contents, size: tuple[int, int], start: int = 0
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Decode a video in order: (index of the frame, RGB uint8 [H, W, 3]) of `size`, (height, width).

    start: the first frame that is needed; those before its key frame are not decoded. Frames that cannot be
    decoded are left out.
    """
    index = {stamp: t for t, stamp in enumerate(there.stamps)}
    height, width = size[::-1] if there.rotation % 2 else size
    key = max((key for key in there.keys if key <= there.stamps[start]), default=None)
    with opened(path) as (container, stream):
        if start and key is not None:
            container.seek(key, stream=stream)
            # Frames that are shown before the key frame, but decoded after it, need others before it.
            index = {stamp: t for stamp, t in index.items() if stamp >= key}
        for number, frame in enumerate(frames(container, stream)):
            t = number if there.in_turn else index.get(_stamp(frame), len(there.stamps))
            if t < len(there.stamps):
                pixels = frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="AREA")
                yield t, np.rot90(pixels, there.rotation)


def frames(container: InputContainer, stream: VideoStream, start: int = 0) -> Iterator[av.VideoFrame]:
    """The frames of the packets, from number `start` on, that can be decoded, in the order in which they are
    shown.
    """
    for packet in islice(_packets(container, stream), start, None):
        with suppress(av.FFmpegError):
            yield from stream.decode(packet)
    with suppress(av.FFmpegError):
        yield from stream.decode(None)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """All packets, up to where the file breaks off."""
    with suppress(av.FFmpegError):
        yield from container.demux(stream)


def _listed(packet: av.Packet) -> _Packet:
    return _Packet(
        _stamp(packet), packet.is_keyframe, packet.is_corrupt, packet.is_discard, packet.duration or 0
    )


def _stamp(timed: av.Packet | av.VideoFrame) -> int:
    """When it is shown; in files that do not say it, when it is decoded."""
    stamp = timed.dts if timed.pts is None else timed.pts
    return 0 if stamp is None else stamp


def _last(path: Path, start: int) -> tuple[int, int] | None:
    """When the last frame that can be decoded from packet number `start` on is shown, and how many frames
    there are up to it; None if there is none.
    """
    with opened(path) as (container, stream):
        stamps = [_stamp(frame) for frame in frames(container, stream, start) if not frame.is_corrupt]
    return (max(stamps), start + len(stamps)) if stamps else None
