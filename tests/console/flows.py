"""What worker processes of these tests serve: parcels that are carried until a file says that they may arrive."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from taquba_workflow_sync.flow import Flow, Goto, Step


@dataclass
class Parcel:
    """``arrived``: a file; the parcel is on its way until it is there."""

    arrived: str


deliveries = Flow[Parcel, str]("deliveries")


@deliveries.start
def pick(parcel: Parcel) -> Goto:
    return carry.goto(parcel)


@deliveries.step(max_attempts=3, backoff=(0.1, 0.1))
def carry(parcel: Parcel, step: Step) -> str:
    while not Path(parcel.arrived).exists():
        step.progress(1, 4, f"carried by {os.getpid()}")
        threading.Event().wait(0.05)
    return "delivered"
