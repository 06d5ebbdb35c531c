"""A sample of the user's own: a picture and a prompt."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from interp.errors import BadInput, first_line
from store.records import Sample, SampleRecord


def custom_sample(image: Path, *, prompt: str, negative_prompt: str = "") -> Sample:
    """A sample of family `custom`: its truth is unknown, so nothing scores it.

    Args:
        image: First frame, any format that Pillow reads; kept at its own size, the pipeline resizes it.
        prompt: What should happen.
        negative_prompt: What guidance leads away from.

    Raises:
        BadInput: if the file is missing or is not a picture.
    """
    try:
        pixels = picture(image, name=f"the first frame {image}")
    except FileNotFoundError:
        raise BadInput(f"no first frame at {image}: give --image an existing picture") from None
    record = SampleRecord(family="custom", prompt=prompt, negative_prompt=negative_prompt)
    return Sample(record, first_frame=pixels)


def picture(source: Path | BytesIO, *, name: str) -> NDArray[np.uint8]:
    """The pixels of a picture file, uint8 `[H, W, 3]`.

    Args:
        source: Any format that Pillow reads.
        name: What an error calls it.

    Raises:
        BadInput: if it is no picture.
        FileNotFoundError: if it is missing.
    """
    try:
        with PIL.Image.open(source) as opened:
            return np.array(opened.convert("RGB"))
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:  # Pillow's for broken files
        raise BadInput(f"cannot read {name}: {first_line(error)}") from error
