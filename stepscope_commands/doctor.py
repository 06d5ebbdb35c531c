"""`stepscope doctor`: what of the installation is amiss."""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from typing import Any

from stepscope_commands._options import Json
from stepscope_commands._printing import fail, print_json, print_table
from stepscope_commands._version import version

LAYERS = ("interp", "store", "analyses", "reports")
"""The layers' import packages; their names are generic, so `doctor` looks for impostors."""


def doctor(*, json_: Json = False) -> None:
    """Check versions, GPU, disk, and whether another package shadows one of ours."""
    found = _doctor()
    if json_:
        print_json(found)
    else:
        print_table(["check", "finding"], list(found.items()))
    if found["shadowed"]:
        fail(f"shadowed packages: {found['shadowed']}; uninstall the other package or use a fresh environment")


def _doctor() -> dict[str, Any]:
    """Findings by what was checked; `shadowed` is empty where all is well."""
    import shutil

    import torch

    home = Path(__file__).resolve().parents[1]
    shadowed: list[str] = []
    for layer in LAYERS:
        spec = util.find_spec(layer)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin.parent.parent != home:
            shadowed.append(f"{layer} is {origin or 'missing'}")
    packages = ("stepscope", "torch", "diffusers", "transformers", "nnsight", "zarr", "xarray", "duckdb", "pyarrow")
    return {
        "python": sys.version.split()[0],
        **{package: version(package) for package in packages},
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads",
        "disk": f"{shutil.disk_usage(Path.cwd()).free / 1e9:.1f} GB free here",
        "shadowed": "; ".join(shadowed),
    }
