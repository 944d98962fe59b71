"""The gate and the room: who is counted, who waits, and what an interruption leaves behind."""

from __future__ import annotations

import threading

from taquba_workflow_sync.storage.relational.gate import Gate, Room

from .callers import LIMIT, Caller, until
from .raw import through


def test_a_shut_gate_keeps_new_calls_out_and_waits_for_those_inside() -> None:
    gate = Gate()
    go, was_in = threading.Event(), threading.Event()

    def pass_through() -> None:
        with through(gate):
            was_in.set()
            assert go.wait(LIMIT)

    inside = Caller(pass_through)
    assert was_in.wait(LIMIT)
    shutter = Caller(gate.shut)
    until(lambda: bool(gate._shut))
    late = Caller(lambda: _enter_and_leave(gate))
    late.join(0.05)
    assert late.is_alive() and shutter.is_alive()
    go.set()
    inside.answer()
    shutter.answer()
    assert late.is_alive()
    gate.open()
    late.answer()
    assert not gate._inside


def _enter_and_leave(gate: Gate) -> None:
    with through(gate):
        pass


def test_who_shuts_it_from_inside_waits_for_the_others_only() -> None:
    gate = Gate()
    with through(gate):
        gate.shut()
        gate.open()


def test_a_shut_gate_opens_when_everyone_who_shut_it_says_so() -> None:
    gate = Gate()
    gate.shut()
    gate.shut()
    late = Caller(lambda: _enter_and_leave(gate))
    gate.open()
    late.join(0.05)
    assert late.is_alive()
    gate.open()
    late.answer()


def test_a_shut_does_not_wait_for_ever_if_told_so() -> None:
    gate = Gate()
    go, was_in = threading.Event(), threading.Event()

    def stay() -> None:
        with through(gate):
            was_in.set()
            assert go.wait(LIMIT)

    staying = Caller(stay)
    assert was_in.wait(LIMIT)
    gate.shut(0.02)
    gate.open()
    go.set()
    staying.answer()


def test_a_call_of_a_signal_handler_inside_another_call_does_not_wait_for_itself() -> None:
    """The fork waits for the outer call, which waits for the handler, which must not wait for the fork."""
    gate = Gate()
    outer, inner = object(), object()
    gate.enter(outer)
    shutter = Caller(gate.shut)
    until(lambda: bool(gate._shut))
    gate.enter(inner)
    gate.leave(inner, None)
    gate.tell()
    assert shutter.is_alive(), "the outer call is inside yet"
    gate.leave(outer, None)
    gate.tell()
    shutter.answer()
    gate.open()


def test_who_was_interrupted_while_waiting_is_not_counted() -> None:
    gate, room = Gate(), Room(1)
    token = object()
    for place in (gate, room):
        place.leave(token, None)
        place.tell()
    assert not gate._inside and not room._line


def test_a_room_lets_in_as_many_as_it_holds_in_the_order_they_came() -> None:
    room = Room(2)
    tokens = [object() for _ in range(4)]
    room.enter(tokens[0])
    room.enter(tokens[1])
    came: list[int] = []

    def come(number: int) -> None:
        room.enter(tokens[number])
        came.append(number)

    third = Caller(lambda: come(2))
    until(lambda: len(room._line) == 3)
    fourth = Caller(lambda: come(3))
    until(lambda: len(room._line) == 4)
    assert not came
    room.leave(tokens[1], None)
    room.tell()
    third.answer()
    assert came == [2]
    room.leave(tokens[0], None)
    room.tell()
    fourth.answer()
    assert came == [2, 3]
    assert room.holds(threading.get_ident()) is False
