"""A sample of the user's own: a picture and a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image

from interp.errors import BadInput
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
        with PIL.Image.open(image) as opened:
            pixels = np.array(opened.convert("RGB"))
    except FileNotFoundError:
        raise BadInput(f"no first frame at {image}: give --image an existing picture") from None
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise BadInput(f"cannot read the first frame {image}: {error}") from error
    record = SampleRecord(family="custom", prompt=prompt, negative_prompt=negative_prompt)
    return Sample(record, first_frame=pixels)
