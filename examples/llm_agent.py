"""An agent whose model and tool calls happen inside one step, each paid for once, though it is killed in the middle.

    python examples/llm_agent.py                        kills itself with kill -9 three times, then goes on
    python examples/llm_agent.py "How many airports are in Alaska, and in Hawaii?"
    OPENAI_API_KEY=... python examples/llm_agent.py     a real model, over HTTP

The agent asks a model what to do next, uses the tool that it names, and asks again, until the model has an answer. How
many calls that takes nobody knows before, so it is one step and not many: ``step.memo.call`` notes what each call
returned before the next one begins. A worker that dies leaves what is noted; the next attempt goes through the same
calls, gets what they returned, and pays only for what had not been noted. What is left is the instant between the
answer of a call and its note: for a call that must not happen twice even then, there is ``step.idempotency_key``.

Without a key the model is ``OfflineModel``, which needs no network. Each call of a model and of a tool writes a line to
a ledger outside of the store, so that the end can show that no call was made twice.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Protocol

import requests

from taquba_workflow_sync import Fail, Queue, QueueConfig, Step, StepError, StepOutcome, Succeed, WorkflowRuntime

QUESTION = "How many airports are in Alaska, in Hawaii and in Texas?"
AIRPORTS = Path(__file__).resolve().parent / "data" / "airports.csv"
STATES = {"Alaska": "AK", "California": "CA", "Florida": "FL", "Hawaii": "HI", "New York": "NY", "Texas": "TX"}
MOST_TURNS = 20
PATIENCE = 60  # seconds for one call of a model

Message = dict[str, str]


class Model(Protocol):
    """What the agent needs of a model: a conversation in, the next message out."""

    def complete(self, messages: list[Message]) -> str: ...


class OfflineModel:
    """Asks for each state that the question names and answers with what it was told; no network, no surprise."""

    def complete(self, messages: list[Message]) -> str:
        question = messages[1]["content"]
        told = {name: number for name, number in (_tool_result(each) for each in messages) if name}
        for name in STATES:
            if name in question and name not in told:
                return json.dumps({"tool": "count_airports", "state": name})
        return json.dumps({"answer": "; ".join(f"{name}: {number}" for name, number in told.items())})


class HostedModel:
    """Any service that speaks OpenAI's chat completions."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1") + "/chat/completions"
        self._model = os.environ.get("OPENAI_MODEL", "gpt-4o-mini")

    def complete(self, messages: list[Message]) -> str:
        body = {"model": self._model, "messages": messages, "response_format": {"type": "json_object"}}
        headers = {"Authorization": f"Bearer {self._key}"}
        answer = requests.post(self._url, json=body, headers=headers, timeout=PATIENCE)
        if answer.status_code >= 500 or answer.status_code == 429:
            raise StepError.transient(f"the model answered {answer.status_code}")
        if answer.status_code != 200:
            raise StepError.permanent(f"the model answered {answer.status_code}: {answer.text[:200]}")
        return str(answer.json()["choices"][0]["message"]["content"])


def _tool_result(message: Message) -> tuple[str, str]:
    """Return a state and its number of airports, if a message says so."""
    name, _, number = message["content"].partition(" has ")
    return (name, number.split()[0]) if message["role"] == "user" and number.endswith(" airports") else ("", "")


def count_airports(state: str) -> str:
    """The tool: count the rows of a file."""
    with AIRPORTS.open(newline="", encoding="utf-8") as file:
        number = sum(row["state"] == STATES[state] for row in csv.DictReader(file))
    return f"{state} has {number} airports"


class Ledger:
    """What was paid for: one line for each call that was really made, written outside of the store."""

    def __init__(self, path: Path, crash_after: int) -> None:
        self._path = path
        self._crash_after = crash_after

    def note(self, what: str) -> None:
        """Write a line; then die, if this process is to die after that many calls."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(what + "\n")

    def crash_if_due(self, calls: int) -> None:
        if calls == self._crash_after:
            os.kill(os.getpid(), signal.SIGKILL)


class Agent:
    """The runner: one step, a loop of calls, each noted."""

    def __init__(self, model: Model, ledger: Ledger) -> None:
        self._model = model
        self._ledger = ledger

    def run_step(self, step: Step) -> StepOutcome:
        instructions = (
            'Answer the question. Reply with JSON: either {"tool": "count_airports", "state": one of '
            f'{", ".join(STATES)}}} or {{"answer": text}}.'
        )
        messages = [
            {"role": "system", "content": instructions},
            {"role": "user", "content": step.payload.decode()},
        ]
        calls = 0
        for turn in range(MOST_TURNS):
            reply = step.memo.call(f"model {turn}", self._ask, messages).decode()
            self._ledger.crash_if_due(calls := calls + 1)
            wish = json.loads(reply)
            if "answer" in wish:
                return Succeed(str(wish["answer"]).encode())
            result = step.memo.call(f"tool {turn}", self._use, wish["state"]).decode()
            self._ledger.crash_if_due(calls := calls + 1)
            messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": result}]
        return Fail(f"no answer after {MOST_TURNS} turns")

    def _ask(self, messages: list[Message]) -> bytes:
        self._ledger.note(f"model, {len(messages)} messages")
        return self._model.complete(messages).encode()

    def _use(self, state: str) -> bytes:
        self._ledger.note(f"count_airports {state}")
        return count_airports(state).encode()


def model() -> Model:
    key = os.environ.get("OPENAI_API_KEY")
    return HostedModel(key) if key else OfflineModel()


def work(place: Path, question: str, crash_after: int) -> None:
    """A worker: submit the question, or find it submitted, and work until it is answered."""
    agent = Agent(model(), Ledger(place / "ledger", crash_after))
    config = QueueConfig(max_attempts=10)
    with Queue.open(place / "store", default_config=config) as queue, WorkflowRuntime(queue, agent) as runtime:
        handle = runtime.submit(run_id="question", input=question.encode())
        result = handle.result(timeout=300)
        attempts = handle.status().attempts  # type: ignore[union-attr]  # it is kept for a week
        print(f"attempt {attempts}: {result.decode()}")


def main() -> None:
    parser = argparse.ArgumentParser(description="An agent whose calls are each paid for once.")
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--store", type=Path, help="the directory to work in (default: one that is removed)")
    parser.add_argument("--crash-after", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.crash_after is not None:
        work(options.store, options.question, options.crash_after)
        return
    with tempfile.TemporaryDirectory(prefix="taquba-llm-agent-") as directory:
        place = options.store or Path(directory)
        place.mkdir(parents=True, exist_ok=True)
        print(f"{type(model()).__name__} is asked: {options.question}")
        for crash_after in (1, 2, 4, 0):  # 0: not at all
            done = subprocess.run(
                [sys.executable, __file__, options.question, "--store", str(place), "--crash-after", str(crash_after)],
                check=False,
            )
            if done.returncode == -signal.SIGKILL:
                print(f"the worker was killed with kill -9 after call {crash_after}")
            elif done.returncode:
                raise SystemExit(f"the worker ended with {done.returncode}")
        calls = (place / "ledger").read_text(encoding="utf-8").splitlines()
        twice = {what: many for what, many in Counter(calls).items() if many > 1}
        print(f"{len(calls)} calls were paid for, {len(twice)} of them twice")
        if twice:
            raise SystemExit(f"paid twice: {twice}")


if __name__ == "__main__":
    main()
