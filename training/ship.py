"""Stages `ship`, `unship`, `adopt` and `restore`: a run's results in few files of bounded size, and back again.

A machine that trains may only give back a handful of files, and it may vanish: what is shipped is enough to install
the model, to write its card, and to go on training from (without the optimizer's moments).
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

from torch import nn

from training import checkpoint, families, loop, transformer
from training.config import TRAINED, Config

PART = 15 << 20
"""Bytes of a file at most."""
FILES = 8
"""Files at most, the manifest included."""
MANIFEST, RECORDS = "manifest.json", "records.json"
INSTALLED = "training.json"
"""How an installed model was trained, beside it: its stages' records."""


class ShipError(ValueError):
    """A parcel that cannot be packed or is damaged."""


def ship(config: Config, folder: Path) -> list[Path]:
    """Pack the exported folder, results and the stages' records into `folder`; what was there is replaced.

    Returns:
        The files: parts of a tar file, and a manifest with their checksums.

    Raises:
        ShipError: if that would be more than `FILES` files.
    """
    box = io.BytesIO()
    known = records(config)
    with tarfile.open(fileobj=box, mode="w") as tar:
        _add(tar, RECORDS, json.dumps(known, indent=2).encode())
        results = [*config.out.glob("*.json"), *config.out.glob("*.webp"), *config.measured.glob("*.json")]
        model = [file for file in config.model_folder.rglob("*") if file.is_file()]
        for file in sorted(file for file in [*results, *model] if file.name != RECORDS):
            _add(tar, str(file.relative_to(config.out)), file.read_bytes())
    content = box.getvalue()
    parts = [content[first : first + PART] for first in range(0, len(content), PART)]
    if len(parts) + 1 > FILES:
        raise ShipError(f"{len(content) / 1e6:.0f} MB need {len(parts)} parts of {PART >> 20} MiB; {FILES - 1} may be")
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("part-*"):
        file.unlink()
    names = [f"part-{number}.tar" for number in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        (folder / name).write_bytes(part)
    sums = {name: hashlib.sha256(part).hexdigest() for name, part in zip(names, parts, strict=True)}
    (folder / MANIFEST).write_text(json.dumps({"parts": sums, "bytes": len(content)}, indent=2) + "\n")
    return [folder / name for name in (*names, MANIFEST)]


def records(config: Config) -> dict[str, dict[str, Any]]:
    """The record of each stage that has been trained: its checkpoint's, or where there is none, the parcel's."""
    file = config.out / RECORDS
    shipped = json.loads(file.read_text()) if file.exists() else {}
    found = {name: checkpoint.record(config.checkpoint(name)) or shipped.get(name) for name in TRAINED}
    return {name: record for name, record in found.items() if record}


def unship(config: Config, folder: Path) -> None:
    """Unpack what `ship` packed into `config.out`.

    Raises:
        ShipError: if a part is missing or damaged.
    """
    manifest = json.loads((folder / MANIFEST).read_text())
    parts: list[bytes] = []
    for name, wanted in manifest["parts"].items():
        content = (folder / name).read_bytes() if (folder / name).exists() else b""
        if hashlib.sha256(content).hexdigest() != wanted:
            raise ShipError(f"{name} of {folder} is {'damaged' if content else 'missing'}; ship again")
        parts.append(content)
    config.out.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as tar:
        tar.extractall(config.out, filter="data")


def install(config: Config, folder: Path) -> None:
    """Put the exported folder in `folder`, in the place of what was there, with the stages' records."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(config.model_folder, folder)
    (folder / INSTALLED).write_text(json.dumps(records(config), indent=2) + "\n")


def adopt(config: Config, folder: Path) -> None:
    """The inverse of `install`: an installed model as one that was exported here, to `restore` and to go on from.

    Raises:
        ShipError: if the folder does not say how its model was trained.
    """
    if not (folder / INSTALLED).exists():
        raise ShipError(f"{folder} has no {INSTALLED}, which says how it was trained; install a model there first")
    shutil.rmtree(config.model_folder, ignore_errors=True)
    shutil.copytree(folder, config.model_folder, ignore=shutil.ignore_patterns(INSTALLED))
    shutil.copyfile(folder / INSTALLED, config.out / RECORDS)


def restore(config: Config) -> None:
    """Checkpoints of VAE and transformer from an unpacked parcel, so that training and describing go on from there.

    The averaged weights become the weights. Steps, minutes, rate and optimizer begin anew: a stage that is asked for
    again is trained for as long as the command line says, on top of what it has had.
    """
    shipped = json.loads((config.out / RECORDS).read_text())
    pipe = families.named(config.model).pipeline.from_pretrained(config.model_folder)
    weights = nn.ModuleDict({name: getattr(pipe, name) for name in transformer.TRAINED}).named_parameters()
    joint = {name: value.detach() for name, value in weights}
    tensors = checkpoint.named("model", joint)
    tensors |= checkpoint.named("ema", {name: value.clone() for name, value in joint.items()})
    checkpoint.save(config.checkpoint("transformer"), tensors, _ended(shipped["transformer"]))
    checkpoint.save(config.checkpoint("vae"), checkpoint.named("model", pipe.vae.state_dict()), _ended(shipped["vae"]))


def _ended(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a training that has ended, as the beginning of one that goes on from it."""
    start = {"step": record["step"], "seconds": record["seconds"], "legs": loop.legs(record)}
    return {**record, "fraction": 0.0, "start": start}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    tar.addfile(entry, io.BytesIO(content))
