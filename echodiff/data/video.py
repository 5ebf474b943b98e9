"""Read frames of a video file with PyAV (FFmpeg)."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from echodiff.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


SUFFIXES = (".avi", ".mp4", ".mov", ".mkv", ".m4v", ".wmv", ".mpg", ".mpeg")
"""Suffixes of video files, in lower case."""
OFF_BEAT = 0.2
"""Tolerance of a time stamp, as a share of the frame time: some formats round it."""


def find_video(stem: Path) -> Path:
    """Find the video file of this name with any video suffix, in any case; `stem`.avi if there is
    none."""
    for suffix in SUFFIXES:
        for path in (stem.with_name(stem.name + s) for s in (suffix, suffix.upper())):
            if path.exists():
                return path
    return stem.with_name(f"{stem.name}.avi")


def read_frames(path: Path, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, (H, W) grey) for increasing `indices`, which may be infinite.

    The index of a frame is its time since the first times the frame rate, so that a dropped frame
    keeps its number. Reading stops after the last index; formats of independent frames, such as
    MJPEG, decode only the requested ones. Indices of dropped frames and those past the end are
    skipped. Colour becomes full-range luma, 0..255. InputError if the file cannot be opened, a
    frame is damaged, time stamps do not fit a frame rate, or the file ends before the number of
    frames that it declares.
    """
    try:
        # A playlist under another name must not make FFmpeg reach for the network.
        with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise InputError(f"{path}: contains no video")
            yield from _decode(path, container, container.streams.video[0], indices)
    except av.FFmpegError as error:
        raise InputError(f"{path}: damaged or not a video ({error.strerror})") from error


def _decode(
    path: Path, container: "InputContainer", stream: "VideoStream", indices: Iterable[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    stream.thread_type = "NONE"  # the other cores read other files
    stream.codec_context.options = {"err_detect": "explode"}  # else damage is painted over
    stands_alone = stream.codec_context.codec.intra_only
    converter = VideoReformatter()
    wanted = iter(indices)
    index = next(wanted, None)
    clock = _Clock(path, stream)
    num_packets = 0
    packets: Any = container.demux(stream)
    # Left open, the generator is freed after its container and leaks the packet it reads into.
    with closing(packets):
        for packet in packets:
            if index is None:
                return
            if packet.is_corrupt:
                raise InputError(f"{path}: cut short in frame {clock.number + 1}")
            num_packets += bool(packet.size)
            if stands_alone:
                if not packet.size or packet.is_discard:
                    continue
                index = _skip_to(clock.tick(packet.pts), index, wanted)
                if clock.number != index:
                    continue
            for frame in packet.decode():
                number = clock.number if stands_alone else clock.tick(frame.pts)
                index = _skip_to(number, index, wanted)
                if number == index:
                    gray = converter.reformat(frame, format="gray", threads=1)
                    yield index, np.asarray(gray.to_ndarray(), dtype=np.uint8)
                    index = next(wanted, None)
    if max(num_packets, clock.number + 1) < max(1, stream.frames):
        raise InputError(f"{path}: cut short: {num_packets} of {stream.frames} frames")


def _skip_to(number: int, index: int | None, wanted: Iterator[int]) -> int | None:
    """Return the first requested index from `number` on."""
    while index is not None and index < number:
        index = next(wanted, None)
    return index


class _Clock:
    """Number frames by their time stamps, in display order."""

    def __init__(self, path: Path, stream: "VideoStream") -> None:
        rate = stream.base_rate or stream.average_rate
        self.path = path
        self.ticks_a_frame = None
        if rate and stream.time_base:
            self.ticks_a_frame = 1 / float(rate * stream.time_base)
        self.first: int | None = None
        self.number = -1

    def tick(self, pts: int | None) -> int:
        """Return the number of the next frame; they are counted without rate or times."""
        if self.ticks_a_frame is None or pts is None:
            self.number += 1
            return self.number
        if self.first is None:
            self.first = pts - round((self.number + 1) * self.ticks_a_frame)
        exact = (pts - self.first) / self.ticks_a_frame
        if abs(exact - round(exact)) > OFF_BEAT or round(exact) <= self.number:
            raise InputError(
                f"{self.path}: frame {self.number + 1} comes {exact:.2f} frames after the first: "
                "its time stamps do not fit a frame rate"
            )
        self.number = round(exact)
        return self.number
