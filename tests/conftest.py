"""What every test runs under: no network beyond this machine, no display, no wait for a disk, two threads, profiles."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

# Set before anything imports torch, huggingface_hub or matplotlib, and inherited by the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it: a busy machine then costs little
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import pytest
from hypothesis import HealthCheck, settings

from store.places.local import Local
from tests import faults, s3_server

# Examples on disk take as long as the disk wants: no deadline. CI draws the same examples every time.
_on_disk = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=25, **_on_disk)
settings.register_profile("ci", max_examples=25, derandomize=True, print_blob=True, **_on_disk)
settings.register_profile("thorough", max_examples=500, **_on_disk)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Durability guards against power loss, which no test makes; `test_every_file_is_synced_once` counts the calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        patch.setattr(Local, "sync_tree", lambda place, folder: None)  # opens every file for it
        yield


@pytest.fixture(scope="session")
def thin_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of `tests.thin`'s stand-in for tinywan, called tinywan, too."""
    from tests import thin  # with diffusers, which most tests do without

    return thin.save(tmp_path_factory.mktemp("thin") / "tinywan")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server of S3, started by the first test that asks for it."""
    with s3_server.running(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def s3_url(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty place on the server, to which the environment gives access."""
    for name, value in s3_server.environment(s3, tmp_path / "cache").items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.BUCKET}/{secrets.token_hex(6)}"


@pytest.fixture
def proxy(s3: str, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[faults.Proxy]:
    """A proxy before the server that can be told to do harm; `s3_url` is then reached through it."""
    with faults.running(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy
