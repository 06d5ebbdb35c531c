"""Fixtures of the store's tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import store.index
import store.stacking  # before a test gives up the right to read where the libraries are
from store.places.local import Local

SYNC_TREE = Local.sync_tree  # before all other tests are spared it


@pytest.fixture(autouse=True)
def every_file_is_opened_to_sync_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What durability takes is tested here."""
    monkeypatch.setattr(Local, "sync_tree", SYNC_TREE)


@pytest.fixture
def acts(tmp_path: Path) -> store.ActivationStore:
    """An empty store."""
    return store.open(tmp_path / "acts", mode="a")


@pytest.fixture
def forbid() -> Iterator[Callable[[Path], None]]:
    """Makes a folder unwritable for this process, also where the tests run as root."""
    effective, changed = os.geteuid(), list[Path]()

    def forbid(folder: Path) -> None:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        changed.append(folder)
        if effective == 0:
            os.seteuid(65534)

    yield forbid
    os.seteuid(effective)
    for folder in changed:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents everybody may enter (pytest's own belong to one user)."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
