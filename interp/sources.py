"""What a model's name means: a bundled model or variant, a folder, or a hub id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from interp import bundled
from interp.errors import UnknownModel, first_line


class Source(NamedTuple):
    """Where a model comes from."""

    where: str
    """Folder or hub id that diffusers reads."""
    id: str
    """Name kept in the records."""
    folder: Path | None
    """The same as a folder; None for a hub id."""
    variant: bundled.Variant | None
    """What is made of it, if it is a bundled variant."""
    defaults: dict[str, Any]
    """What the model's and the variant's `stepscope.json` say."""

    @property
    def bundled(self) -> bool:
        """Whether it ships in the package."""
        return self.folder is not None and self.folder.parent == bundled.FOLDER


def source_of(name_or_path: str | Path) -> Source:
    """What `name_or_path` means.

    Raises:
        UnknownModel: if it means nothing, or a `stepscope.json` cannot be read.
    """
    name = str(name_or_path)
    variant = bundled.VARIANTS.get(name)
    folder = _folder(variant.base if variant else name)
    defaults: dict[str, Any] = {}
    for file in (path / bundled.DEFAULTS_FILE for path in (folder, variant and variant.path) if path):
        if file.exists():
            try:
                defaults |= json.loads(file.read_text())
            except ValueError as error:
                raise UnknownModel(f"cannot read {file}: {first_line(error)}") from error
    return Source(str(folder or name), name if variant else folder.name if folder else name, folder, variant, defaults)


def _folder(name: str) -> Path | None:
    """The folder that `name` means, or None where it can only be a hub id."""
    if (bundled.FOLDER / name / "model_index.json").exists() and "/" not in name:
        return bundled.FOLDER / name
    path = Path(name)
    if path.is_dir():
        if not (path / "model_index.json").exists():
            raise UnknownModel(f"{name} is a folder without model_index.json: not a saved diffusers pipeline")
        return path.resolve()
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UnknownModel(
            f"no model {name!r}: bundled are {', '.join(bundled.names()) or 'none'}; "
            "or give a folder with model_index.json, or a hub id such as Wan-AI/Wan2.2-I2V-A14B-Diffusers"
        )
    return None
