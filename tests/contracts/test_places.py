"""What every place of storage must do, on a real disk and on a real server of S3."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import crc32c
import pytest

from store import files
from store.errors import DamagedArray, MissingFile
from store.places import Location, locate

LARGE = bytes(range(256)) * (9 << 12) + b"the end"
"""More than a place sends at once: 9 MiB and a bit."""


class PlaceContract:
    """Inherit it, and say in the fixture `root` where an empty folder is."""

    @pytest.fixture
    def root(self) -> Location:
        raise NotImplementedError

    @pytest.mark.parametrize("parts", [[], [b""], [b"one"], [b"one", b"", memoryview(b"two")], [LARGE[:5], LARGE[5:]]])
    def test_what_is_written_is_read(self, root: Location, parts: list[bytes]) -> None:
        data = b"".join(parts)
        written = files.write_new(root / "file", iter(parts))
        assert written == (len(data), f"{crc32c.crc32c(data):08x}")
        assert files.read(root / "file") == data
        assert files.checksum(root / "file") == written.crc32c
        assert files.exists(root / "file")

    def test_any_range_is_read_exactly(self, root: Location) -> None:
        files.write_new(root / "file", [LARGE])
        with files.Reader(root / "file") as reader:
            assert reader.nbytes == len(LARGE)
            for offset, nbytes in ((0, 1), (0, 0), (1000, 5000), (len(LARGE) - 3, 3), (5, len(LARGE) - 5), (7, 70000)):
                assert reader.read(offset, nbytes) == LARGE[offset : offset + nbytes]

    def test_beyond_the_end_is_an_error(self, root: Location) -> None:
        files.write_new(root / "file", [b"12345"])
        with files.Reader(root / "file") as reader:
            for offset, nbytes in ((0, 6), (5, 1), (9, 1)):
                with pytest.raises(DamagedArray, match=r"file ends at byte 5, before .*cut short"):
                    reader.read(offset, nbytes)

    def test_what_is_missing_is_named(self, root: Location) -> None:
        assert not files.exists(root / "none")
        with pytest.raises(MissingFile, match="none is missing"):
            files.read(root / "none")
        with pytest.raises(MissingFile, match="none is missing"):
            files.checksum(root / "none")
        files.remove(root / "none")
        files.remove_tree(root / "none")

    def test_sizes_are_checked_at_once(self, root: Location) -> None:
        for name, data in (("a", b"1"), ("b", b"22")):
            files.write_new(root / name, [data])
        files.check_all(root, {"a": 1, "b": 2})
        files.check(root / "b", 2)
        for sizes, message in (
            ({"a": 1, "b": 3}, "b has 2 bytes instead of 3"),
            ({"a": 1, "c": 1}, "c is missing"),
            ({"b": 1}, "b has 2"),
        ):
            with pytest.raises(DamagedArray, match=message):
                files.check_all(root, sizes)

    def test_publishing_happens_once(self, root: Location) -> None:
        assert files.publish(root / "file", b"first")
        assert not files.publish(root / "file", b"second")
        assert not files.publish(root / "file", b"third")
        assert files.read(root / "file") == b"first"

    def test_of_many_publishers_one_wins(self, root: Location) -> None:
        for number in range(2):
            texts = [f"writer {writer}".encode() for writer in range(4)]
            with ThreadPoolExecutor(4) as pool:
                won = list(pool.map(lambda text, path=root / f"{number}": files.publish(path, text), texts))
            assert sum(won) == 1
            assert files.read(root / f"{number}") == texts[won.index(True)]
        assert files.names(root) == ["0", "1"]

    def test_a_listing_shows_what_is_published(self, root: Location) -> None:
        assert files.listing(root, ".x") == {}
        for name in ("b.x", "a.x", "a.y", ".c.x", "deep/d.x"):
            files.make_folder((root / name).parent)
            files.publish(root / name, name.encode())
        found = files.listing(root, ".x")
        assert sorted(found) == ["a", "b"]
        assert found["a"].nbytes == 3
        assert files.listing(root, ".x") == found
        files.remove(root / "a.x")
        files.publish(root / "a.x", b"new")
        again = files.listing(root, ".x")
        assert again["b"] == found["b"]
        assert again["a"] != found["a"]

    def test_names_and_trees(self, root: Location) -> None:
        assert (files.names(root / "none"), files.tree(root / "none")) == ([], {})
        for name in ("run/zarr.json", "run/a/c.0", "run/a/c.1", "runner/x"):
            files.make_folder((root / name).parent)
            files.write_new(root / name, [name.encode()])
        assert files.names(root) == ["run", "runner"]
        assert files.names(root / "run") == ["a", "zarr.json"]
        assert {name: found.nbytes for name, found in files.tree(root / "run").items()} == {
            "zarr.json": 13,
            "a/c.0": 9,
            "a/c.1": 9,
        }
        assert files.survey(root / "runner") == {"x": (8, f"{crc32c.crc32c(b'runner/x'):08x}")}
        assert (files.kind(root / "run"), files.kind(root / "none")) == ("folder", "nothing")

    def test_removing_takes_one_folder(self, root: Location) -> None:
        for name in ("run/a/c.0", "run/b", "runner/x"):
            files.make_folder((root / name).parent)
            files.write_new(root / name, [b""])
        files.remove_tree(root / "run")
        assert list(files.tree(root)) == ["runner/x"]
        assert files.kind(root / "run") == "nothing"

    def test_a_claimed_folder_is_nobody_elses(self, root: Location) -> None:
        claimed = [files.claim(root, "run") for _ in range(3)]
        assert len(set(map(str, claimed))) == 3
        assert all(path.name.split(".")[0] == "run" for path in claimed)

    def test_what_is_written_becomes_durable(self, root: Location) -> None:
        folder = files.claim(root, "run")
        files.write_new(folder / "file", [b"data"])
        files.sync_tree(folder)
        files.sync(root)
        assert files.read(folder / "file") == b"data"

    def test_locations_travel(self, root: Location) -> None:
        files.write_new(root / "file", [b"data"])
        again = pickle.loads(pickle.dumps(root / "file"))
        assert (again, str(again), files.read(again)) == (root / "file", str(root / "file"), b"data")
        assert (root.joinpath("a", "b"), (root / "a" / "b").parent.name) == (root / "a" / "b", "a")

    def test_room_is_known_or_not(self, root: Location) -> None:
        free = files.free(root)
        assert free is None or free > 0
        assert files.writable(root)


class TestLocal(PlaceContract):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Location:
        return locate(tmp_path)

    def test_nothing_is_overwritten(self, root: Location) -> None:
        files.write_new(root / "file", [b"first"])
        with pytest.raises(FileExistsError):
            files.write_new(root / "file", [b"second"])
        assert files.read(root / "file") == b"first"


class TestS3(PlaceContract):
    @pytest.fixture
    def root(self, s3_url: str) -> Location:
        return locate(s3_url)

    def test_all_spellings_of_a_url_are_one(self, s3_url: str) -> None:
        files.write_new(locate(s3_url) / "file", [b"data"])
        for spelling in (s3_url + "/", Path(s3_url), s3_url.replace("s3://", "s3:///"), locate(s3_url)):
            assert files.read(locate(spelling) / "file") == b"data"
            assert str(locate(spelling)) == s3_url

    def test_keys_stay_here(self, s3_url: str) -> None:
        assert b"secret" not in pickle.dumps(locate(s3_url))
