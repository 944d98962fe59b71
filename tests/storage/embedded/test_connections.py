"""The order in which connections, their gate and their locks are taken."""

from __future__ import annotations

import threading

from tests.storage.bench import put_one, version_of

from .conftest import OpenEmbedded


def test_who_waits_at_a_shut_gate_holds_nothing_that_those_inside_need(open_embedded: OpenEmbedded) -> None:
    """A fork and a close wait for the writer to leave the gate, and it opens the connection that watches."""
    store = open_embedded()
    put_one(store)
    gate = store._connections.gate
    is_waiting = threading.Event()
    enter = gate.enter

    def entering(token: object) -> None:
        is_waiting.set()
        enter(token)

    gate.enter = entering  # type: ignore[method-assign]
    gate.shut()
    looker = threading.Thread(target=version_of, args=(store,))
    looker.start()
    try:
        assert is_waiting.wait(30)
        assert store._connections._idle_watchers
    finally:
        gate.open()
        looker.join(30)
    assert not looker.is_alive()
