"""What is a store, and what is not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import store
from tests.store import small


def test_reading_needs_a_store(tmp_path):
    with pytest.raises(store.StoreNotFound, match="mode='a'") as found:
        store.open(tmp_path / "none")
    assert isinstance(found.value, FileNotFoundError)
    assert not (tmp_path / "none").exists()


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "file").write_text("hello")
    for mode in ("r", "a"):
        with pytest.raises(store.NotAStore, match="is a file"):
            store.open(tmp_path / "file", mode=mode)
    assert (tmp_path / "file").read_text() == "hello"


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("hello")
    for mode in ("r", "a"):
        with pytest.raises(store.NotAStore, match=r"without stepscope\.json"):
            store.open(tmp_path, mode=mode)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_empty_folder_becomes_a_store_only_when_writing(tmp_path):
    with pytest.raises(store.NotAStore):
        store.open(tmp_path)
    assert store.open(tmp_path, mode="a").run_ids() == []
    assert json.loads((tmp_path / "stepscope.json").read_text())["format"] == store.FORMAT
    assert store.open(tmp_path).run_ids() == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "one"}', '{"format": 0}'])
def test_a_damaged_marker_is_refused(tmp_path, text):
    (tmp_path / "stepscope.json").write_text(text)
    with pytest.raises(store.NotAStore, match="format"):
        store.open(tmp_path)


def test_a_newer_store_is_refused(acts):
    (acts.path / "stepscope.json").write_text('{"format": 2}')
    with pytest.raises(store.NewerFormat, match=r"has format 2.* up to 1; upgrade"):
        store.open(acts.path)


def test_many_may_create_the_same_store_at_once(tmp_path):
    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(lambda _, path=tmp_path / str(number): store.open(path, mode="a"), range(8)))
        assert {acts.path for acts in opened} == {tmp_path / str(number)}


def test_a_store_opened_for_reading_does_not_write(acts):
    reader = store.open(acts.path)
    with pytest.raises(store.ReadOnlyStore, match="mode='a'"):
        reader.begin_run(small.run(), small.PROVENANCE)
    with pytest.raises(store.ReadOnlyStore, match="mode='a'"):
        reader.put_sample(small.sample())


def test_a_folder_that_cannot_be_written_is_still_read(open_folder, forbid):
    id = small.commit(store.open(open_folder / "acts", mode="a"))
    forbid(open_folder / "acts")
    with pytest.raises(store.ReadOnlyStore, match="cannot be written"):
        store.open(open_folder / "acts", mode="a")
    reader = store.open(open_folder / "acts")
    assert reader.sql("SELECT run_id FROM runs").fetchall() == [(id,)]
    assert reader.load("resid_post", "energy").sizes["run"] == 1
    assert not (open_folder / "acts" / "index.duckdb").exists()


def test_a_store_cannot_be_made_where_nothing_may_be_written(open_folder, forbid):
    forbid(open_folder)
    with pytest.raises(store.ReadOnlyStore, match=r"cannot write .*acts: Permission denied"):
        store.open(open_folder / "acts", mode="a")


def test_errors_are_plain_sentences_and_builtins(acts):
    small.commit(acts)
    with pytest.raises(KeyError) as found:
        acts.run("0" * 16)
    assert isinstance(found.value, store.RunNotFound)
    assert str(found.value).startswith("no run '0000000000000000' in ")
    with pytest.raises(store.RunNotFound):
        acts.run("../../etc/passwd")


def test_repr_counts(acts):
    small.commit(acts)
    acts.put_sample(small.sample())
    assert repr(acts) == f"ActivationStore('{acts.path}': 1 runs, 1 samples, 0 results, 0.0 MB)"
