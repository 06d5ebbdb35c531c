"""Where the large parts of a page are: inside it, or in files beside it that it names by `src` and `href`."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from reports._media import Sheet
from reports.errors import CannotWrite

log = logging.getLogger(__name__)

INSIDE_BYTES: Final = 32_000
"""A picture that is smaller stays inside the page: many small files are slow to copy."""
_OURS: Final = re.compile(r"[\w-]{1,80}\.[0-9a-f]{16}\.(webp|png|csv|parquet)", re.ASCII)
"""Names of files that a report may take away again; nothing else in its folder is touched."""
_TYPES: Final = {"csv": "text/csv;charset=utf-8", "parquet": "application/vnd.apache.parquet"}


class Place(Protocol):
    """Takes the parts of a page, and gives the addresses at which the page finds them."""

    table_bytes: int
    """What a table may weigh at most."""
    sources: str
    """Where the page's policy lets pictures come from."""

    def picture(self, sheet: Sheet) -> Sheet:
        """The sheet with the address at which the page finds it."""
        ...

    def table(self, name: str, kind: str, content: bytes) -> str:
        """The address of a table; `kind` is `csv` or `parquet`."""
        ...


class Inside:
    """Everything is in the page itself, as `data:` addresses."""

    table_bytes = 200_000
    sources = "data:"

    def picture(self, sheet: Sheet) -> Sheet:
        """The sheet as it is."""
        return sheet

    def table(self, name: str, kind: str, content: bytes) -> str:
        """Text as text, which stays legible, all else in base 64."""
        if kind == "csv":
            return f"data:{_TYPES[kind]},{quote(content, safe=' ,-.:;()=/')}"
        return f"data:{_TYPES[kind]};base64,{base64.b64encode(content).decode()}"


class Beside:
    """Large parts are files in a folder beside the page; each is named by its content.

    So an older page never finds a newer file under an old name, and the same inputs give the same names.

    Args:
        page: The page's own path.
    """

    table_bytes = 20_000_000
    sources = "data: 'self' file:"

    def __init__(self, page: Path) -> None:
        self.folder = folder_of(page)
        self.files: dict[str, bytes] = {}
        """Content by name."""

    def picture(self, sheet: Sheet) -> Sheet:
        """The sheet with the address of its file; a small one stays in the page."""
        if sheet.nbytes < INSIDE_BYTES:
            return sheet
        head, _, content = sheet.uri.partition(",")
        kind = head.removeprefix("data:image/").removesuffix(";base64")
        return sheet._replace(uri=self._put("picture", kind, base64.b64decode(content)))

    def table(self, name: str, kind: str, content: bytes) -> str:
        """The address of the table's file."""
        return self._put(name, kind, content)

    def _put(self, name: str, kind: str, content: bytes) -> str:
        stem = re.sub(r"[^\w-]+", "_", name, flags=re.ASCII)[:80] or "_"
        file = f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{kind}"
        self.files[file] = content
        return f"{quote(os.fsencode(self.folder.name), safe='')}/{file}"


def folder_of(page: Path) -> Path:
    """The folder beside a page that holds its files: `a_files` for `a.html`, as browsers name it."""
    return page.with_name(f"{page.stem if page.suffix == '.html' else page.name}_files")


def put(page: Path, text: str, files: dict[str, bytes]) -> Path:
    """Write files, then the page that names them; a reader finds the old page with its files, or the new one.

    Args:
        page: Path of the page; its folder is made if it is missing.
        text: The page.
        files: Content of the files beside it by name; what an earlier page had there and this one has not is removed.

    Returns:
        The page.

    Raises:
        CannotWrite: if something cannot be written; then what was there is there as before.
    """
    try:
        page.parent.mkdir(parents=True, exist_ok=True)
        _put(page, text, files)
    except OSError as error:
        raise CannotWrite(f"{page} cannot be written: {error.strerror or error}; choose another file.") from error
    return page


def _put(page: Path, text: str, files: dict[str, bytes]) -> None:
    folder = folder_of(page)
    made = [folder] if files and not folder.exists() else []
    try:
        if files:
            folder.mkdir(exist_ok=True)
        for name, content in files.items():
            file = folder / name
            if not file.exists():
                made.append(file)
            elif file.read_bytes() == content:
                continue
            _replace(file, content)
        _replace(page, text.encode())
    except BaseException:
        _undo(made)
        raise
    _tidy(folder, keep=files)


def _replace(path: Path, content: bytes) -> None:
    """Write beside `path`, then rename: a reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=".part-", dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _undo(made: list[Path]) -> None:
    """Remove what was written for a page that did not come to be."""
    for path in reversed(made):
        with suppress(OSError):  # the first error is the one to tell
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def _tidy(folder: Path, *, keep: dict[str, bytes]) -> None:
    """Remove the files of an earlier page from `folder`, and the folder if nothing is left in it."""
    if not folder.is_dir():
        return
    try:
        for file in list(folder.iterdir()):
            if _OURS.fullmatch(file.name) and file.name not in keep:
                file.unlink()
        if not keep and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:  # the page is written and whole
        log.warning("%s keeps files of an earlier report: %s", folder, error.strerror or error)
