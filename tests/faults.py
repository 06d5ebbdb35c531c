"""An HTTP proxy that does to requests what bad days do: errors, delays, cut connections, lost answers."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Kind = Literal["answer", "slow", "cut"]


@dataclass
class Fault:
    """What happens to some requests.

    Attributes:
        match: Regular expression on `"METHOD /bucket/key?query"`.
        kind: `answer` with `status`, `slow` by `seconds`, or `cut` the connection in the middle of the answer.
        times: How many requests it hits.
        status: HTTP status of `answer`.
        code: S3's error code in the answer.
        seconds: Delay of `slow`.
        carried_out: Whether the server gets the request all the same, and only the answer is lost.
    """

    match: str
    kind: Kind = "answer"
    times: int = 10**9
    status: int = 500
    code: str = "InternalError"
    seconds: float = 0.0
    carried_out: bool = False


@dataclass
class Proxy:
    """A running proxy.

    Attributes:
        endpoint: Its address.
        faults: What it does, the first that matches.
        seen: Every request, as faults match it.
    """

    endpoint: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, match: str, **options: Any) -> Fault:
        """Plan a fault."""
        self.faults.append(Fault(match, **options))
        return self.faults[-1]

    def take(self, request: str) -> Fault | None:
        """The fault for a request, counted."""
        with self.lock:
            self.seen.append(request)
            for fault in self.faults:
                if fault.times and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def running(upstream: str) -> Iterator[Proxy]:
    """A proxy before the server at `upstream`."""

    class Handler(_Handler):
        target = urlsplit(upstream)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Handler.proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Handler.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one packet: each alone waits for an acknowledgement
    proxy: Proxy
    target: Any

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.take(f"{self.command} {self.path}")
        try:
            if fault is None:
                self._give(*self._forward(body))
            elif fault.kind == "slow":
                time.sleep(fault.seconds)
                self._give(*self._forward(body))
            elif fault.kind == "cut":
                self._cut(*self._forward(body))
            else:
                if fault.carried_out:
                    self._forward(body)
                text = f"<Error><Code>{fault.code}</Code><Message>planted</Message></Error>".encode()
                self._give(fault.status, [("Content-Type", "application/xml"), ("ETag", '"planted"')], text)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_one

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """The server's answer. The signature covers the header Host, so all headers go as they came."""
        connection = http.client.HTTPConnection(self.target.hostname, self.target.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, answer.getheaders(), data
        finally:
            connection.close()

    def _give(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self._head(status, headers, len(data))
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def _head(self, status: int, headers: list[tuple[str, str]], nbytes: int) -> None:
        self.send_response_only(status)
        length = str(nbytes)
        for name, value in headers:
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()

    def _cut(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self._head(status, headers, len(data))
        self.wfile.write(data[: len(data) // 2])
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
