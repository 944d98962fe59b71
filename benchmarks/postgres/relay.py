"""A link with a delay between two processes of one machine: a relay in a process of its own."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from urllib.parse import urlsplit

import psycopg

from benchmarks.children import child

_CHUNK = 1 << 16
_ASKED = 200


@contextmanager
def delayed(url: str, seconds: float) -> Iterator[str]:
    """Lend a URL behind which every message takes so many seconds more, either way."""
    with child(_relay, url, seconds) as relay:
        port = relay.hear()
        parts = urlsplit(url)
        yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()


def round_trip(url: str) -> float:
    """Return how many milliseconds the server takes to answer nothing, the median."""
    took = []
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(_ASKED):
            began = time.perf_counter()
            connection.execute("SELECT 1")
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def _relay(pipe: Connection, url: str, seconds: float) -> None:
    parts = urlsplit(url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pipe.send(listener.getsockname()[1])
        while True:
            near, _ = listener.accept()
            far = socket.create_connection((parts.hostname, parts.port))
            for link in (near, far):
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(source, target, seconds), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
    # Those who speak wait for an answer before they go on, so that one message at a time is on its way.
    try:
        while data := source.recv(_CHUNK):
            time.sleep(seconds)
            target.sendall(data)
    except OSError:
        pass
    finally:
        for link in (source, target):
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
