"""Frames of a video file, by PyAV (FFmpeg)."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from echodiff.config import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream


def read_frames(path: Path, indices: Iterable[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, (H, W) grey) for the `indices`, which increase from 0 on and may be endless.

    Nothing after the last index is read, and of formats whose frames stand alone, such as
    MJPEG, nothing else is decoded. Indices beyond the last frame are left out. Colour becomes its
    luma, 0..255 whatever range the file uses. InputError where the file cannot be opened, a frame
    is damaged, or the end comes before the number of frames that the file itself tells.
    """
    import av

    try:
        # A playlist under another name must not make FFmpeg reach for the network.
        with av.open(str(path.absolute()), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video")
            yield from _decode(path, container, container.streams.video[0], indices)
    except av.FFmpegError as error:
        raise InputError(f"{path}: damaged or no video ({error.strerror})") from error


def _decode(
    path: Path, container: "InputContainer", stream: "VideoStream", indices: Iterable[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    from av.video.reformatter import VideoReformatter

    stream.thread_type = "NONE"  # the other cores read other files
    stream.codec_context.options = {"err_detect": "explode"}  # else damage is painted over
    stands_alone = stream.codec_context.codec.intra_only
    converter = VideoReformatter()
    wanted = iter(indices)
    index = next(wanted, None)
    num_frames = 0
    packets: Any = container.demux(stream)
    # Left open, the generator is freed after its container and leaks the packet it reads into.
    with closing(packets):
        for packet in packets:
            if index is None:
                return
            if packet.is_corrupt:
                raise InputError(f"{path}: cut short in frame {num_frames}")
            if stands_alone and num_frames != index and packet.size:
                num_frames += 1
                continue
            for frame in packet.decode():
                if num_frames == index:
                    gray = converter.reformat(frame, format="gray", threads=1)
                    yield index, np.asarray(gray.to_ndarray(), dtype=np.uint8)
                    index = next(wanted, None)
                num_frames += 1
    if num_frames < max(1, stream.frames):
        raise InputError(f"{path}: cut short: {num_frames} of {stream.frames} frames")
