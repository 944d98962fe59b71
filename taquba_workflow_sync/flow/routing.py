"""Which step a run is at: by name and version, in an envelope around the state; the input is the state alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

import msgspec

from taquba_workflow_sync.errors import StepError
from taquba_workflow_sync.queue import validation
from taquba_workflow_sync.workflow.runner import Step
from taquba_workflow_sync.workflow.spec import HEADER_FLOW, flow_version

_encode_text: Final = msgspec.json.encode


class Place(msgspec.Struct, frozen=True, gc=False, rename={"step": "at", "version": "v"}):
    """Where a run stands, as it is stored between steps; fields that a newer program adds are passed over.

    ``step`` None: at its start. ``version``: of the program that wrote the state, if known.
    """

    step: str | None
    version: int | None
    state: msgspec.Raw


_NO_ENVELOPE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_read: Final = msgspec.json.Decoder(Place).decode


#: What an envelope begins with in place of the input: no JSON does.
_MARK: Final = b"@"


class Wrapping:
    """Puts states for one step into envelopes."""

    __slots__ = ("_after", "_before")

    def __init__(self, step: str, version: int) -> None:
        self._before = b'{"at":%s,"v":%d,"state":' % (_encode_text(step), version)
        self._after = b"}"

    def __call__(self, state: bytes) -> bytes:
        """Return what is stored."""
        return self._before + state + self._after


def place_of(step: Step) -> Place:
    """Return where a run stands that a runtime hands over.

    Raises:
        StepError: permanent: its payload is none of a flow.
    """
    if step.step_number:  # most steps: they must not pay for the first one
        try:
            return _read(step.payload)
        except _NO_ENVELOPE as error:
            raise _no_place(step.step_number, error) from None
    return place_in(0, step.headers, step.payload)


def place_in(step_number: int, headers: Mapping[str, str], payload: bytes) -> Place:
    """Return where a run stands, by what is stored of it.

    Raises:
        StepError: permanent: its payload is none of a flow.
    """
    if step_number == 0:
        if not payload.startswith(_MARK):
            return Place(None, flow_version(headers), msgspec.Raw(payload))
        payload = payload[len(_MARK) :]
    try:
        return _read(payload)
    except _NO_ENVELOPE as error:
        raise _no_place(step_number, error) from None


def _no_place(step_number: int, error: Exception) -> StepError:
    return StepError.permanent(f"step {step_number} has a payload that no step of a flow has passed on: {error}")


def marked(envelope: bytes) -> bytes:
    """Return an envelope as it is stored in place of the input, which is a state without one."""
    return _MARK + envelope


def header_of(version: int, of_run: Mapping[str, Any] = MappingProxyType({})) -> dict[str, str]:
    """Return what a submit says of its version, and of the settings that the first step has itself.

    ``of_run``: of each of these what the submit says for the other steps, None: nothing. Times are in milliseconds.
    """
    return {HEADER_FLOW: " ".join((str(version), *(_word(name, value) for name, value in of_run.items())))}


def of_other_steps(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return of each setting that the first step has itself what the submit says for the others; None: nothing."""
    said = headers.get(HEADER_FLOW, "")
    return dict(map(_setting, said.split()[1:])) if " " in said else {}


def _word(name: str, value: Any) -> str:
    if value is None:
        return name
    if name == "backoff":
        return f"{name}={','.join(str(validation.duration_ms(each, name)) for each in value)}"
    return f"{name}={validation.duration_ms(value, name) if name == 'step_timeout' else value}"


def _setting(word: str) -> tuple[str, Any]:
    name, is_said, text = word.partition("=")
    if not is_said:
        return name, None
    numbers = tuple(map(int, text.split(",")))
    times = tuple(timedelta(milliseconds=each) for each in numbers)
    return name, {"backoff": times, "step_timeout": times[0]}.get(name, numbers[0])
