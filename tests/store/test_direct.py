"""Files written past the page cache hold what they should, wherever pieces and buffers begin and end."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path

import crc32c
import numpy as np
import pytest

from store.places import direct


def write(path: Path, parts: list[bytes | memoryview]) -> bytes:
    """Write, and check what `write` says of it; the file's bytes."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        written = direct.write(handle, iter(parts))
    finally:
        os.close(handle)
    data = path.read_bytes()
    assert written == (len(data), f"{crc32c.crc32c(data):08x}")
    return data


@pytest.fixture
def small_buffers(monkeypatch):
    monkeypatch.setattr(direct, "BUFFER", 2 * direct.ALIGNMENT)


@pytest.fixture
def placed(monkeypatch):
    """Every (flag of direct writing, offset, bytes) that was written."""
    seen: list[tuple[bool, int, int]] = []
    pwrite = os.pwrite

    def watched(handle, data, offset):
        seen.append((bool(fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT), offset, len(data)))
        return pwrite(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", watched)
    return seen


@pytest.mark.parametrize("nbytes", [0, 1, 4095, 4096, 8191, 8192, 8193, 12288, 16384, 20480, 50001])
@pytest.mark.parametrize("cut", [0, 1, 4096, 10000])
def test_every_length_and_cut(tmp_path, small_buffers, nbytes, cut):
    data = np.random.default_rng(0).bytes(nbytes)
    assert write(tmp_path / "file", [data[:cut], b"", data[cut:]]) == data


@pytest.mark.parametrize("before", [b"", b"ab"])
def test_aligned_memory(tmp_path, small_buffers, before):
    memory = mmap.mmap(-1, 50_000)
    memory[:] = np.random.default_rng(0).bytes(50_000)
    assert write(tmp_path / "file", [before, memoryview(memory)[:45_000], b"end"]) == before + memory[:45_000] + b"end"


def test_large_files_are_written_direct_and_small_ones_are_not(tmp_path, small_buffers, placed):
    if not direct_works(tmp_path):
        pytest.skip("this file system has no direct writes")
    placed.clear()
    write(tmp_path / "small", [b"a" * 8191])
    assert {flag for flag, _, _ in placed} == {False}
    placed.clear()
    write(tmp_path / "large", [b"a" * 30_000])
    whole, tail = 28_672, 30_000 - 28_672
    assert sum(nbytes for flag, _, nbytes in placed if flag) == whole
    assert [(offset, nbytes) for flag, offset, nbytes in placed if not flag] == [(whole, tail)]


def direct_works(folder: Path) -> bool:
    """Whether the disk of the tests takes direct writes."""
    handle = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT)
    try:
        fcntl.fcntl(handle, fcntl.F_SETFL, os.O_DIRECT)
        return os.pwrite(handle, mmap.mmap(-1, 4096), 0) == 4096
    except OSError:
        return False
    finally:
        os.close(handle)


@pytest.mark.parametrize("refusal", ["flag", "write"])
def test_a_file_system_without_direct_writes(tmp_path, small_buffers, monkeypatch, refusal):
    control, pwrite = fcntl.fcntl, os.pwrite

    def refuse_flag(handle, command, flags=0):
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return control(handle, command, flags)

    def refuse_write(handle, data, offset):
        if control(handle, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return pwrite(handle, data, offset)

    if refusal == "flag":
        monkeypatch.setattr(fcntl, "fcntl", refuse_flag)
    else:
        monkeypatch.setattr(os, "pwrite", refuse_write)
    data = np.random.default_rng(0).bytes(100_000)
    assert write(tmp_path / "file", [data]) == data


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_a_full_disk_is_told(tmp_path, small_buffers, monkeypatch, after):
    pwrite, count = os.pwrite, iter(range(100))

    def fill(handle, data, offset):
        if next(count) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(handle, data, offset)

    monkeypatch.setattr(os, "pwrite", fill)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "file", [b"a" * 60_000])


def test_a_short_write_goes_on_where_it_stopped(tmp_path, small_buffers, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, offset: pwrite(handle, data[:4096], offset))
    data = np.random.default_rng(0).bytes(60_001)
    assert write(tmp_path / "file", [data]) == data
