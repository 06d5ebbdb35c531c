"""Whether the wheel is whole, and works installed into an empty environment where nothing else of the project is.

    python .ci/wheel.py dist/stepscope-0.1.0-py3-none-any.whl FOLDER [--install]

from the root of a clone, by the Python of its `.venv`; FOLDER, which must not lie in the clone, is made. The
environment holds what the wheel's own metadata asks for and nothing more. Without `--install`, those dependencies are
links to what `.venv` has installed by the same constraints file, since to install torch once more takes a minute and
2 GB; a dependency that the metadata forgets is missing all the same, and that every package of ours is the wheel's is
checked. With it, pip installs them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def tops(root: Path) -> list[Path]:
    """The packages, and modules beside them, that belong in the wheel."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return [root / name for name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]]


def missing(wheel: Path, root: Path) -> list[str]:
    """Files of the packages that the wheel lacks: all there are, less what Python and desktops leave behind."""
    files = [file for top in tops(root) for file in (top.rglob("*") if top.is_dir() else [top]) if file.is_file()]
    paths = [file.relative_to(root) for file in files]
    kept = [path for path in paths if not any(part[0] == "." or part == "__pycache__" for part in path.parts)]
    with ZipFile(wheel) as archive:
        return sorted({path.as_posix() for path in kept} - set(archive.namelist()))


def demanded(wheel: Path) -> set[str]:
    """Names of all distributions that the wheel needs, by its metadata and theirs."""
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().split("\n\n", 1)[0].splitlines()
    waiting = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    asked = [need for need in map(Requirement, waiting) if need.marker is None or need.marker.evaluate({"extra": ""})]
    seen: set[tuple[str, str]] = set()
    while asked:
        need = asked.pop()
        for extra in ("", *need.extras):
            if (key := (canonicalize_name(need.name), extra)) not in seen:
                seen.add(key)
                asked += _asked_by(need, extra)
    return {name for name, _ in seen}


def _asked_by(need: Requirement, extra: str) -> Iterator[Requirement]:
    """What an installed distribution asks for."""
    try:
        found = distribution(need.name)
    except PackageNotFoundError:
        sys.exit(f"{need} is needed, and .venv does not have it")
    if not need.specifier.contains(found.version, prereleases=True):
        sys.exit(f"{need} is needed, and .venv has {found.version}")
    for inner in map(Requirement, found.requires or []):
        if inner.marker is None or inner.marker.evaluate({"extra": extra}):
            yield inner


def link(names: set[str], site: Path) -> None:
    """Make installed distributions importable from `site`: a link for each of their folders and modules."""
    for name in sorted(names):
        found = distribution(name)
        files = found.files or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (site / top).exists():  # a namespace that several share
                (site / top).symlink_to(Path(str(found.locate_file(top))).absolute())


def environment(wheel: Path, folder: Path, *, install: bool) -> Path:
    """An environment with the wheel and its dependencies; the folder of its programs."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-input", "--no-compile"]
    if install:
        subprocess.run([*pip, "-c", "constraints.txt", str(wheel)], check=True)
        return python.parent
    site = next(folder.glob("lib/python*/site-packages"))
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    link(demanded(wheel), site)
    return python.parent


def strangers(programs: Path, names: list[str], *, place: Path) -> list[str]:
    """Packages of ours that this environment finds anywhere but in itself."""
    code = f"import importlib\nfor name in {names}:\n    print(importlib.import_module(name).__file__)"
    files = run([str(programs / "python"), "-c", code], programs=programs, place=place).splitlines()
    inside = str(programs.parent.absolute()) + os.sep
    return [file for file in files if not file.startswith(inside)]


def run(words: list[str], *, programs: Path, place: Path) -> str:
    """What a command prints, run in `place` without anything that could lead to the clone; ends here if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    given = kept | {"PATH": f"{programs}:{os.defpath}"}
    done = subprocess.run(words, cwd=place, env=given, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}\n{done.stdout}")
    return done.stdout


def check(wheel: Path, folder: Path, *, install: bool) -> list[str]:
    """What is wrong with a wheel, a line each."""
    root = Path.cwd()
    if lacking := missing(wheel, root):
        return [f"the wheel lacks {name}" for name in lacking]
    programs = environment(wheel, folder / "venv", install=install)
    place = folder / "empty"
    place.mkdir()
    if found := strangers(programs, [top.stem for top in tops(root)], place=place):
        return [f"{file} is not the wheel's" for file in found]
    stepscope = str(programs / "stepscope")
    version, models, _ = (
        run([stepscope, *words.split()], programs=programs, place=place)
        for words in ("--version", "models ls --json", "demo --mazes 1 --seeds 0")
    )
    report = place / "demo" / "report.html"
    if not report.exists() or "</html>" not in report.read_text(encoding="utf-8"):
        return [f"stepscope demo left no whole {report.name}"]
    sys.stdout.write(
        f"{version.strip()}: {models.count('Pipeline')} pipelines, report of {report.stat().st_size} bytes\n"
    )
    return []


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path, help="is made; outside the clone")
    parser.add_argument("--install", action="store_true", help="dependencies too, by pip and constraints.txt")
    given = parser.parse_args()
    if given.folder.absolute().is_relative_to(Path.cwd()):
        parser.error(f"{given.folder} lies in the clone; choose a folder outside")
    given.folder.mkdir(parents=True)
    complaints = check(given.wheel.absolute(), given.folder.absolute(), install=given.install)
    sys.stdout.writelines(f"{line}\n" for line in complaints)
    sys.exit(bool(complaints))
