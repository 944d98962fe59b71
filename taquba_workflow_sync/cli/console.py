"""``console``: the pages about a store, for whoever has their address."""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from taquba_workflow_sync.cli.exit_codes import DONE, Failure
from taquba_workflow_sync.cli.options import store_option
from taquba_workflow_sync.cli.output import Output
from taquba_workflow_sync.cli.store import opened

if TYPE_CHECKING:
    from taquba_workflow_sync.console.standalone import Server

#: How soon the server sees that it is to end, in seconds.
_ENDS_WITHIN: Final = 0.1


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8399, show_default=True, help="0: any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--read-only", is_flag=True, help="Show everything, change nothing.")
@store_option
def console(port: int, host: str, read_only: bool, store: str | None, as_json: bool) -> int:
    """Serve pages about the store: queues, runs, dead letters, schedules, limits, workers; until Ctrl-C.

    Whoever has the address that it prints may use it: it holds a token, another one at each start. It is plain HTTP; to
    reach it from elsewhere use an SSH tunnel, or mount the console in a Django or Flask application.
    """
    try:
        from taquba_workflow_sync.console import ACT, READ
        from taquba_workflow_sync.console.guard import new_secret
        from taquba_workflow_sync.console.standalone import Server, Standalone, names_of
    except ImportError as error:
        raise Failure(str(error)) from None
    out = Output(as_json=as_json)
    token = new_secret()
    with opened(store) as queue:
        try:
            server = Server(host, port)
        except OSError as error:
            hint = "; choose another one with --port" if error.errno == errno.EADDRINUSE else ""
            raise Failure(f"cannot listen at {host}, port {port}: {error.strerror or error}{hint}") from None
        with server:
            names = names_of(host, server.server_port)
            access = READ if read_only else ACT
            server.set_app(Standalone(queue, token, hosts=names, access=access))
            url = f"http://{names[0]}/?token={token}"
            # Before the address is out: whoever has read it may send the signal.
            with _told_to_end() as is_told:
                out.record({"url": url}, f"{url}\nwhoever has this address may use it; Ctrl-C ends it")
                _serve(server, is_told)
    return DONE


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Have SIGINT and SIGTERM set an event."""
    is_told = threading.Event()

    def tell(number: int, frame: FrameType | None) -> None:
        is_told.set()

    before = {number: signal.signal(number, tell) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield is_told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve(server: Server, is_told: threading.Event) -> None:
    """Serve on a thread of its own until the event."""
    thread = threading.Thread(target=server.serve_forever, args=(_ENDS_WITHIN,), name="console", daemon=True)
    thread.start()
    # In pieces: a wait without an end is not left by a signal's handler on every platform.
    while not is_told.wait(0.5) and thread.is_alive():
        pass
    server.shutdown()
    thread.join()
