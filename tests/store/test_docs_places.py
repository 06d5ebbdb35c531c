"""The pages about S3 and about maintenance show what works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import store
from tests.store import small
from tests.store.test_docs import DOCS, blocks


def test_maintenance_runs_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    acts = store.open("demo/acts", mode="a")
    small.commit(acts, sample_id=acts.put_sample(small.sample()))
    small.commit(acts, 1)
    (code,) = blocks("maintenance.md", "python")
    exec(code, {})
    assert capsys.readouterr().out == "()\n0\n"
    assert np.load("energy.npy").shape[0] == 1  # only one of the two is of a maze
    assert len(store.open("backup").run_ids()) == 1


def test_every_command_is_on_the_page():
    from stepscope import app

    page = (DOCS / "maintenance.md").read_text()
    commands = [name for name in app["store"] if not name.startswith("-")]
    assert len(commands) >= 7
    assert [name for name in commands if f"| `{name} " not in page] == []


@pytest.mark.filterwarnings("ignore:.*ObjectStore.*:UserWarning")
def test_a_store_on_s3_opens_with_and_without_us(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")  # obstore alone wants to be told
    ours, plain = (code.replace("s3://bucket/acts", s3_url) for code in blocks("s3.md", "python"))
    names: dict[str, Any] = {}
    exec(ours, names)
    acts = names["acts"]
    entry = acts.run(small.commit(acts))
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    plain = plain.replace('"bucket"', repr(bucket)).replace(
        "acts/runs/<id>.<token>", f"{prefix}/runs/{entry.path.name}"
    )
    lines = plain.splitlines()
    exec("\n".join(lines[:-1]), names)
    found = eval(lines[-1], names)
    np.testing.assert_array_equal(found.energy.values, small.energy(0))
