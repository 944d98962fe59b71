"""A research-then-write agent: one model call is one step, so no crash pays for a call twice that had ended.

    python examples/agent.py
    python examples/agent.py "Which rows are rejected?" --document notes.md --store DIR
    OPENAI_API_KEY=... python examples/agent.py        # a real model, over HTTP

Stage one, research, reads one section of the document a step and takes notes. Stage two, write, makes a brief of the
notes. The model stands behind a small interface. Without a key it is ``OfflineModel``, which needs no network: it
quotes the sentences that fit the question best. With ``OPENAI_API_KEY`` set it is any service that speaks OpenAI's chat
completions (``OPENAI_BASE_URL`` and ``OPENAI_MODEL`` choose it).

The run is named after question and document: with ``--store``, asking again answers from the store without a call.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import requests

from taquba_workflow_sync import (
    Cancel,
    Continue,
    IfFinished,
    Queue,
    RunSpec,
    Step,
    StepError,
    StepOutcome,
    Succeed,
    WorkflowRuntime,
)

DOCUMENT = Path(__file__).resolve().parent / "data" / "README.md"
QUESTION = "Is the airport list in the public domain, and which source has it?"
SMALL_WORDS = {"about", "from", "have", "that", "these", "they", "this", "what", "where", "which", "with"}


class Model(Protocol):
    """What the agent needs of a model: instructions and a text in, a text out."""

    def complete(self, instructions: str, text: str) -> str: ...


class OfflineModel:
    """Answers with the sentences of the text that share the most words with the instructions, in their order."""

    def __init__(self, sentences: int = 3) -> None:
        self.sentences = sentences

    def complete(self, instructions: str, text: str) -> str:
        wanted = set(words_of(instructions))
        sentences = sentences_of(text)
        spread = Counter(word for sentence in sentences for word in set(words_of(sentence)))

        def fit(sentence: str) -> float:  # a word that few sentences have says more
            return sum(1 / spread[word] for word in wanted.intersection(words_of(sentence)))

        best = sorted(sentences, key=fit, reverse=True)[: self.sentences]
        return " ".join(sentence for sentence in sentences if sentence in best and fit(sentence) > 0)


class ChatModel:
    """Any HTTP service that speaks OpenAI's chat completions."""

    def __init__(self, base_url: str, key: str, model: str) -> None:
        self.url = f"{base_url.rstrip('/')}/chat/completions"
        self.key = key
        self.model = model

    def complete(self, instructions: str, text: str) -> str:
        messages = [{"role": "system", "content": instructions}, {"role": "user", "content": text}]
        try:
            response = requests.post(
                self.url,
                json={"model": self.model, "messages": messages, "temperature": 0},
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=(5, 120),
            )
        except requests.RequestException as error:
            raise StepError.transient(f"model not reached: {error}") from error
        if response.status_code == 429 or response.status_code >= 500:
            raise StepError.transient(f"model answered {response.status_code}")
        if not response.ok:  # a wrong key or a bad request: asking again does not help
            raise StepError.permanent(f"model answered {response.status_code}: {response.text[:200]}")
        return str(response.json()["choices"][0]["message"]["content"])


class ResearchAgent:
    """The runner. Its whole state travels in the payload: what is still to be read, and the notes so far."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.calls = 0

    def run_step(self, step: Step) -> StepOutcome:
        state = json.loads(step.payload)
        if step.cancel_token.is_set():
            return Cancel("cancelled before the model was asked")
        if not state["unread"]:
            print(f"step {step.step_number}: writing from {len(state['notes'])} notes", flush=True)
            return Succeed(self.write(state["question"], state["notes"]).encode())

        section, *unread = state["unread"]
        note = self.research(state["question"], section)
        print(f"step {step.step_number}: read {len(section)} characters, noted {len(note)}", flush=True)
        return Continue(to_json({**state, "unread": unread, "notes": [*state["notes"], note]}))

    def research(self, question: str, section: str) -> str:
        self.calls += 1
        return self.model.complete(f"Note what this text says about the question: {question}", section)

    def write(self, question: str, notes: list[str]) -> str:
        self.calls += 1
        return self.model.complete(f"From these notes, write a short brief on: {question}", "\n\n".join(notes))


def choose_model() -> Model:
    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        return OfflineModel()
    base_url = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    return ChatModel(base_url, key, os.environ.get("OPENAI_MODEL", "gpt-4o-mini"))


def sections_of(document: str) -> list[str]:
    """Cut a Markdown document into its paragraphs, without tables and headings."""
    paragraphs = re.split(r"\n\s*\n", document.replace("**", ""))
    return [" ".join(paragraph.split()) for paragraph in paragraphs if not paragraph.lstrip().startswith(("|", "#"))]


def sentences_of(text: str) -> list[str]:
    return [sentence for sentence in re.split(r"(?<=[.!?])\s+", text) if sentence]


def words_of(text: str) -> list[str]:
    return [word.rstrip("s") for word in re.findall(r"[a-z]{4,}", text.lower()) if word not in SMALL_WORDS]


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer a question from a document, one model call a step.")
    parser.add_argument("question", nargs="?", default=QUESTION)
    parser.add_argument("--document", type=Path, default=DOCUMENT, help="a text or Markdown file")
    parser.add_argument("--store", type=Path, help="directory to keep the run in (default: a temporary one)")
    args = parser.parse_args()

    agent = ResearchAgent(choose_model())
    sections = sections_of(args.document.read_text(encoding="utf-8"))
    task = to_json({"question": args.question, "unread": sections, "notes": []})
    run_id = f"brief-{hashlib.sha256(task).hexdigest()[:32]}"
    print(f"{type(agent.model).__name__}, {len(sections)} sections, run {run_id}")

    with ExitStack() as stack:
        store = args.store or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        queue = stack.enter_context(Queue.open(store))
        runtime = stack.enter_context(WorkflowRuntime(queue, agent))
        handle = runtime.submit(RunSpec(run_id=run_id, input=task, if_finished=IfFinished.RERUN_FAILED))
        brief = handle.result().decode()

    print(f"{agent.calls} model calls\n\n{args.question}\n{brief}")
    assert brief, "no brief was written"


if __name__ == "__main__":
    main()
