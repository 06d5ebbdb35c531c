"""Video files: uint8 frames to H.264 and back.

Shapes: F frames, H×W pixels.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from interp.errors import BadInput, first_line

LARGEST: Final = 4 << 30
"""Bytes of frames that a file may unpack to."""


def write(video: NDArray[np.uint8], path: Path, *, fps: int, crf: int = 12, chroma: str = "420") -> None:
    """Write a video as H.264, at a constant frame rate.

    Args:
        video: uint8 `[F, H, W, 3]`; with chroma 420, H and W are even.
        path: File to write; its ending names the container.
        fps: Frames a second.
        crf: The encoder's constant rate factor: 0 loses nothing, 51 nearly everything.
        chroma: `420` keeps a quarter of the colour, as most files do; `444` keeps all of it.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf)})
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = f"yuv{chroma}p"
        for frame in video:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def read(path: Path) -> NDArray[np.uint8]:
    """Every frame of a video file, uint8 `[F, H, W, 3]`.

    Raises:
        BadInput: if it is missing, is no video, holds no frame, or unpacks to more than `LARGEST` bytes.
    """
    frames: list[NDArray[np.uint8]] = []
    size = 0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BadInput(f"{path} holds no video; give a film that a player shows")
            for frame in container.decode(video=0):
                size += frame.width * frame.height * 3
                if size > LARGEST:
                    raise BadInput(f"{path} unpacks to more than {LARGEST >> 30} GiB of frames; give a shorter film")
                frames.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    except (OSError, av.FFmpegError) as error:
        raise BadInput(f"cannot read the video {path}: {first_line(error)}") from error
    if not frames or len({frame.shape for frame in frames}) > 1:
        raise BadInput(f"{path} has {'frames of several sizes' if frames else 'no frame'}; encode it again")
    return np.stack(frames)
