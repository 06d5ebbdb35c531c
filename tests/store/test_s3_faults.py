"""Bad days on S3, planted between the client and a real server: what can be mended is, the rest is one clear line."""

from __future__ import annotations

import socket

import numpy as np
import pytest

import store
from store.places import s3 as s3_place
from tests import faults
from tests.store import small

MANIFEST = "^PUT .*/manifests/runs/"
SHARD = "^GET .*/energy/energy/c"


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses grow as they do in earnest, from a smaller start."""
    monkeypatch.setattr(s3_place, "_FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(s3_place, "_LONGEST_PAUSE_S", 0.05)
    s3_place._open.cache_clear()


@pytest.fixture
def acts(proxy: faults.Proxy, s3_url: str) -> store.ActivationStore:
    """An empty store behind the proxy."""
    return store.open(s3_url, mode="a")


def check(acts: store.ActivationStore, id: str) -> None:
    """The run of seed 0 is there and whole."""
    assert acts.run_ids() == [id]
    np.testing.assert_array_equal(acts.load("resid_post", "energy").values[0], small.energy(0))


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown"), (429, "TooManyRequests")])
def test_errors_that_pass_are_survived(acts, proxy, status, code):
    for match in ("^PUT", "^GET", "^HEAD"):
        proxy.add(match, times=2, status=status, code=code)
    check(acts, small.commit(acts))
    assert not any(fault.times for fault in proxy.faults)


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("fault", ["500", "409", "cut"])
def test_a_commit_in_doubt_is_decided_by_what_is_there(acts, proxy, fault, carried_out):
    """Also where the server took the manifest and only its answer was lost."""
    if fault == "cut":
        proxy.add(MANIFEST, times=1, kind="cut")
    else:
        code = {"500": "InternalError", "409": "ConditionalRequestConflict"}[fault]
        proxy.add(MANIFEST, times=1, status=int(fault), code=code, carried_out=carried_out)
    check(acts, small.commit(acts))
    assert acts.incomplete() == []


def test_a_lost_answer_does_not_hide_who_won(acts, proxy, s3_url):
    writers = [acts.begin_run(small.run(), small.PROVENANCE) for _ in range(2)]
    for writer in writers:
        small.write_energy(writer, 0)
        writer.set_steps(small.infos(2))
    id = writers[0].commit(1.0)
    proxy.add(MANIFEST, times=1, status=500)
    with pytest.raises(store.RunExists):
        writers[1].commit(1.0)
    check(acts, id)
    assert acts.run(id).path == writers[0].path


def test_what_may_still_become_visible_is_not_removed(acts, proxy):
    """The server takes the manifest, and from then on answers nothing: the run must not lose its files."""
    proxy.add(MANIFEST, status=500, carried_out=True)
    reads = proxy.add("^GET .*/manifests/runs/", status=500)
    with pytest.raises(store.StoreUnreachable, match="manifests"):
        small.commit(acts)
    assert not any(request.startswith(("DELETE", "POST")) for request in proxy.seen)
    reads.times = 0
    check(acts, small.run().id)


def test_a_manifest_that_never_arrived_leaves_only_what_gc_takes(acts, proxy):
    fault = proxy.add(MANIFEST, status=500)
    with pytest.raises(store.StoreUnreachable, match=r"failed on .*InternalError"):
        small.commit(acts)
    assert acts.run_ids() == []
    assert len(acts.incomplete()) == 1
    fault.times = 0
    check(acts, small.commit(acts))


@pytest.mark.parametrize("times", [1, 2])
def test_a_cut_connection_does_not_shorten_what_is_read(acts, proxy, times):
    id = small.commit(acts)
    proxy.add(SHARD, kind="cut", times=times)
    check(acts, id)


def test_a_connection_that_is_always_cut_is_an_error(acts, proxy):
    small.commit(acts)
    lazy = acts.load("resid_post", "energy")
    proxy.add(SHARD, kind="cut")
    with pytest.raises(store.StoreUnreachable, match=r"c\.\d.*cannot be reached"):
        lazy.compute()


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (503, "SlowDown", store.StoreUnreachable, r"too busy for s3://.*SlowDown"),
        (500, "InternalError", store.StoreUnreachable, r"failed on s3://.*InternalError"),
        (403, "ExpiredToken", store.AccessDenied, r"credentials for s3://.* have expired \(ExpiredToken\): renew"),
        (403, "AccessDenied", store.AccessDenied, r"access to s3://.* was denied"),
        (403, "QuotaExceeded", store.StoreFull, r"no space left to write s3://"),
        (507, "XMinioStorageFull", store.StoreFull, r"no space left to write s3://"),
        (400, "MalformedThing", store.StoreError, r"refused s3://.*MalformedThing\): planted"),
    ],
)
def test_what_does_not_pass_is_one_clear_line(acts, proxy, status, code, kind, message):
    proxy.add("^PUT", status=status, code=code)
    with pytest.raises(kind, match=message) as found:
        small.commit(acts)
    assert "\n" not in str(found.value)
    proxy.faults.clear()
    assert acts.run_ids() == []


def test_credentials_that_expire_while_reading_are_named(acts, proxy):
    small.commit(acts)
    lazy = acts.load("resid_post", "energy")
    proxy.add(SHARD, status=403, code="ExpiredToken")
    with pytest.raises(store.AccessDenied, match="have expired"):
        lazy.compute()


def test_a_server_that_does_not_answer_is_given_up(acts, proxy, s3_url, monkeypatch):
    monkeypatch.setattr(s3_place, "READ_S", 0.2)
    monkeypatch.setattr(s3_place, "REQUEST_S", 0.3)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.add("^GET|^HEAD", kind="slow", seconds=0.6)
    with pytest.raises(store.StoreUnreachable, match=f"no answer in time for {s3_url}") as found:
        store.open(s3_url)
    assert "\n" not in str(found.value)


def test_a_slow_server_is_waited_for(acts, proxy):
    proxy.add("^PUT", kind="slow", seconds=0.3, times=3)
    check(acts, small.commit(acts))


def test_a_server_without_conditional_puts_is_refused(proxy, s3_url):
    proxy.add("^PUT", status=200)  # says yes to everybody
    with pytest.raises(store.StoreError, match="ignores If-None-Match"):
        store.open(s3_url, mode="a")


def test_nobody_at_the_endpoint(s3_url, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(store.StoreUnreachable, match=f"{s3_url} cannot be reached at {endpoint}") as found:
        store.open(s3_url)
    assert "\n" not in str(found.value)


def test_no_such_bucket(s3_url):
    with pytest.raises(store.StoreNotFound, match=r"there is no bucket s3://nosuchbucket; check its name"):
        store.open("s3://nosuchbucket/acts")
    with pytest.raises(store.StoreError, match="needs a bucket"):
        store.open("s3://")


def test_keys_that_the_server_does_not_know(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "stranger")
    with pytest.raises(store.AccessDenied, match=r"does not know these credentials .*InvalidAccessKeyId"):
        store.open(s3_url)


def test_keys_that_may_only_read(s3_url, monkeypatch):
    id = small.commit(store.open(s3_url, mode="a"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "reader")
    check(store.open(s3_url), id)
    with pytest.raises(store.AccessDenied, match="was denied"):
        small.commit(store.open(s3_url, mode="a"), 1)
