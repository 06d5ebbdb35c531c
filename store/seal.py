"""A checksum of a whole Parquet file, within the file.

Parquet finds everything through its footer, so that readers skip 8 bytes before it: `SSC1`, then the CRC-32C
of all other bytes as a uint32, little endian. A bit that flips anywhere shows.
"""

from __future__ import annotations

import struct
from typing import Final

import crc32c

MARK: Final = b"SSC1"
_SEAL: Final = len(MARK) + 4
_END: Final = 8  # length of the footer, and "PAR1"


def seal(data: bytes) -> bytes:
    """The Parquet file `data` with its checksum."""
    cut = _footer(data)
    body, footer = data[:cut], data[cut:]
    return b"".join([body, MARK, crc32c.crc32c(body + footer).to_bytes(4, "little"), footer])


def is_sealed(data: bytes) -> bool:
    """Whether the file has a checksum where one belongs."""
    cut = _footer(data)
    return cut >= _SEAL and data[cut - _SEAL : cut - 4] == MARK


def is_sound(data: bytes) -> bool:
    """Whether the file has a checksum, and it is right."""
    cut = _footer(data)
    value = crc32c.crc32c(data[: max(0, cut - _SEAL)] + data[cut:])
    return is_sealed(data) and value.to_bytes(4, "little") == data[cut - 4 : cut]


def _footer(data: bytes) -> int:
    """Where the footer begins; 0 for what is no Parquet file."""
    if len(data) < _END:
        return 0
    return max(0, len(data) - _END - struct.unpack("<I", data[-_END:-4])[0])
