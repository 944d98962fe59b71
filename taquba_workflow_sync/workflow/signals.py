"""What the world tells a run: signals, as a step receives them and an operator sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from taquba_workflow_sync.clock import from_ms
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.storage.port.signals import MOST_PAYLOAD, NewSignal, StoredSignal


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that was sent to a run. ``sent_at`` is aware, in UTC, by the store's clock when it was accepted.

    ``id`` is the sender's ``signal_id``, or None.
    """

    name: str
    payload: bytes
    sent_at: datetime
    id: str | None


def signal_of(stored: StoredSignal) -> Signal:
    """Return a stored signal as it is shown."""
    return Signal(stored.name, stored.payload, from_ms(stored.sent_ms), stored.id)


def new_signal(name: object, payload: object, signal_id: object) -> NewSignal:
    """Return a signal to send, checked.

    Raises:
        TypeError, ValueError, PayloadTooLargeError: an argument is wrong.
    """
    checked = validation.key(name, "name")
    checked_id = None if signal_id is None else validation.key(signal_id, "signal_id")
    return NewSignal(checked, validation.value(payload, MOST_PAYLOAD, "payload"), checked_id)
