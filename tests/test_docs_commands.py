"""Every command of the README and of the docs runs as it is printed, page by page, each page in an empty folder.

A block that cannot run on two cores in minutes begins with `# needs:` and what it needs. Its commands are parsed, so
that every option in it exists; where they need nothing but `hours`, they are planned as well, with one sample, by
`--dry-run`. The model is narrower (`tests/thin.py`) and takes fewer steps than it would, the commands are the same.

What stands beside the commands belongs to them: a TOML block whose first line is `# NAME.toml` is that file, and
the Python of the pages that a newcomer reads first runs where it stands.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from cyclopts import CycloptsError

import stepscope
from interp import sources

ROOT: Final = Path(stepscope.__file__).parent
NEEDS: Final = ("clone", "network", "gpu", "weights", "kit", "hours")
"""A clone of the repository, the network, a GPU, weights that do not ship, VBVR-Bench's kit, hours of two cores."""
COMMANDS: Final = ("stepscope", "make", "pip", "python", "torchrun", ".")
PLANNED: Final = ("capture", "experiment")
"""Commands with a `--dry-run`."""
SHELL: Final = ("sh", "bash", "console", "shell")
FENCE: Final = re.compile(r"^(?P<fence>`{3,})(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=fence)`*$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str

    @property
    def needs(self) -> tuple[str, ...]:
        """What its first line asks for."""
        found = re.match(r"# needs: (.+)\n", self.text)
        return tuple(found[1].split(", ")) if found else ()

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command; a quoted argument may go over several lines."""
        found: list[list[str]] = []
        waiting = ""
        for line in self.text.splitlines():
            if line.endswith("\\"):
                waiting += line.removeprefix("$ ").removesuffix("\\")
                continue
            waiting += line.removeprefix("$ ") + "\n"
            try:
                words = shlex.split(waiting, comments=True)
            except ValueError:  # a quotation goes on
                continue
            found += [words] if words else []
            waiting = ""
        assert not waiting, f"a quotation never ends: {waiting}"
        return found


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    return [Block(found["language"].strip(), found["text"]) for found in FENCE.finditer(page.read_text())]


def taught(page: Path) -> bool:
    """Whether its Python runs here, too; that of others is run by the tests of what they are about."""
    return page.name in ("README.md", "start.md") or page.parent.name in ("concepts", "how-to")


PAGES: Final = {
    str(page.relative_to(ROOT)): page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if "_build" not in page.parts and any(block.language in SHELL for block in blocks(page))
}


@pytest.fixture(scope="module", autouse=True)
def hasty(thin_model: Path) -> Iterator[None]:
    """For tinywan a narrow stand-in, in 4 steps without guidance where a command does not say how; variants in 2."""

    def source_of(name_or_path: str | Path) -> sources.Source:
        source = sources.source_of(name_or_path)
        defaults = source.defaults | {"steps": 2 if source.variant else 4, "guidance": 1.0}
        where = (
            str(thin_model) if source.bundled and not source.variant else source.where
        )  # a variant's LoRAs fit tinywan alone
        return source._replace(where=where, defaults=defaults)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.loading.source_of", source_of)
        patch.setattr("interp.catalogue.source_of", source_of)
        yield


def run(words: list[str]) -> None:
    """Run a command in this process."""
    code: object = 0
    try:
        stepscope.main(words[1:])
    except SystemExit as stop:
        code = stop.code
    assert not code, f"{shlex.join(words)} ended with {code}"


def plan(words: list[str]) -> None:
    """Plan a command for one sample of the model that it names, and do not carry it out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.loading.source_of", sources.source_of)
        patch.setattr("interp.catalogue.source_of", sources.source_of)
        run(smaller(words))


def parse(words: list[str]) -> None:
    """Ask the program whether it knows a command and all of its options."""
    command, *rest = words
    if command == "stepscope":
        try:
            stepscope.app.parse_args(rest, print_error=False, exit_on_error=False)
        except CycloptsError as error:
            raise AssertionError(f"{shlex.join(words)}: {error}") from error
    elif command == "make":
        assert re.search(rf"^{rest[0]}:", (ROOT / "Makefile").read_text(), re.M), f"no target {rest[0]}"
    elif command in ("python", "torchrun") and "-m" in rest:
        module = ROOT / rest[rest.index("-m") + 1].replace(".", "/")
        assert module.is_dir() or module.with_suffix(".py").is_file(), f"no module {module}"


def smaller(words: list[str]) -> list[str]:
    """The same command, planned for one sample and not carried out."""
    pairs = zip(["", *words[:-1]], words, strict=True)
    kept = ["1" if before == "--n" else word for before, word in pairs]
    return kept if "--dry-run" in kept else [*kept, "--dry-run"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cached is these tests' own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demo/`, as `stepscope demo` of the page *Start* leaves it; the pages take a copy."""
    place = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run(["stepscope", "demo"])
    return place / "demo"


def test_there_are_commands_and_none_hides():
    """A command in a block that does not say so would never be run."""
    assert len(PAGES) >= 15
    hidden = re.compile(rf"^(\$ )?({'|'.join(map(re.escape, COMMANDS[:-1]))}) [a-z-]", re.M)
    pages = (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    found = [
        (page.name, block.text)
        for page in pages
        for block in blocks(page)
        if block.language in ("", "text") and hidden.search(block.text)
    ]
    assert found == []


@pytest.mark.parametrize("name", PAGES)
def test_what_a_block_needs_is_said_in_known_words(name: str):
    for block in blocks(PAGES[name]):
        assert set(block.needs) <= set(NEEDS)
        if block.language in SHELL:
            assert block.commands
            assert {words[0] for words in block.commands} <= set(COMMANDS)
            assert block.needs or {words[0] for words in block.commands} == {"stepscope"}


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    page = PAGES[name]
    monkeypatch.chdir(tmp_path)
    if re.search(r"\bdemo/", page.read_text()):
        shutil.copytree(request.getfixturevalue("demo"), tmp_path / "demo")
    names: dict[str, Any] = {}
    for block in blocks(page):
        if (file := re.match(r"# (\S+\.toml)\n", block.text)) and block.language == "toml":
            Path(file[1]).write_text(block.text)
        if block.language == "python" and taught(page):
            exec(block.text, names)
        for words in block.commands if block.language in SHELL else ():
            parse(words)
            if words[:2] == ["stepscope", "demo"]:
                continue  # it made the copy above
            if not block.needs:
                run(words)
            elif block.needs == ("hours",) and words[1] in PLANNED:
                plan(words)


def test_a_wrong_option_and_a_wrong_command_are_found():
    parse(shlex.split("stepscope capture --world maze --into acts"))
    with pytest.raises(AssertionError, match="--wrold"):
        parse(shlex.split("stepscope capture --wrold maze --into acts"))
    with pytest.raises(AssertionError):
        parse(shlex.split("stepscope caption --into acts"))
    with pytest.raises(AssertionError, match="no target"):
        parse(["make", "tea"])
    with pytest.raises(AssertionError, match="ended with 2"):
        run(shlex.split("stepscope store ls nowhere"))


def test_commands_go_over_lines():
    block = Block("sh", '# needs: gpu, hours\nstepscope sql "SELECT\n  1" \\\n  --store acts  # ask\n\n$ make demo\n')
    assert block.needs == ("gpu", "hours")
    assert block.commands == [["stepscope", "sql", "SELECT\n  1", "--store", "acts"], ["make", "demo"]]
    assert smaller(["stepscope", "capture", "--n", "32"]) == ["stepscope", "capture", "--n", "1", "--dry-run"]
