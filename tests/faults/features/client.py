"""What a client of the features does at random, and how one goes on with what a killed one left unanswered."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from taquba_workflow_sync import (
    EffectConflictError,
    Effects,
    InvalidStateError,
    Queue,
    RunNotFoundError,
    RunSpec,
    TaqubaError,
    WorkflowClient,
)
from tests.faults.features.runner import BARE, members_of
from tests.faults.journal import Event, Journal, read

#: The limits of the queue, and of keys that begin so. ``h-``: a run keeps its slot from its first claim to its end.
QUEUE_LIMIT = 3
KEY_LIMITS = {"k-": 2, "h-": 1}
RATE_KEY, RATE, WINDOW = "r-", 3, 0.2
KEYS = (None, None, None, None, "k-0", "k-1", "k-1", "h-0", "r-0", "r-0")

#: A group that takes several commits to be written, and several to be cancelled once a member has failed.
LARGE = 1_200
NAMES = ("a", "b")
_WORDS = (
    "go", "add", "add", "add:raise", "add:nap", "cas", "cas", "memo", "memo:raise", "memo:nap", "raise", "self",
    "later:0.03",
)  # fmt: skip
_ENDINGS = ("go", "go", "add", "add", "fail", "dead", "cancel")
_GROUPS = ("fan:3:collect", "fan:0:collect", "fan:5:collect", "fan:4:cancel")


def set_up(client: WorkflowClient, *, fires_for: float | None = None) -> None:
    """Set limits, and define schedules that fire each second (for so long) from the next whole one on; once."""
    limits = {limit.key for limit in client.limits()}
    if None not in limits:
        client.set_limit(concurrency=QUEUE_LIMIT)
    for prefix, most in KEY_LIMITS.items():
        if prefix + "*" not in limits:
            client.set_limit(key=prefix + "*", concurrency=most, hold="run" if prefix == "h-" else "step")
    if RATE_KEY + "*" not in limits:
        client.set_limit(key=RATE_KEY + "*", rate=(RATE, WINDOW))
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
    until = None if fires_for is None else start + timedelta(seconds=fires_for)
    there = {schedule.name for schedule in client.schedules()}
    for catch_up, overlap in (("all", "allow"), ("one", "allow"), ("all", "skip")):
        name = f"{catch_up}-{overlap}"
        if name not in there:
            spec = RunSpec(headers={"plan": "go"}, max_attempts_per_step=10)
            client.schedule(
                name,
                every=timedelta(seconds=1),
                start=start,
                until=until,
                catch_up=catch_up,
                overlap=overlap,
                spec=spec,
            )


def make_feature_plan(chance: random.Random, others: list[str], *, patience: str = "") -> str:
    """Return a random plan; ``others`` are the runs that it may tell something, ``patience`` how long waits are."""
    words = []
    for _ in range(chance.randrange(1, 5)):
        what = chance.random()
        if what < 0.15:
            words.append(chance.choice(_GROUPS))
        elif what < 0.35:
            words.append(f"wait:{chance.choice(NAMES)}{patience or chance.choice(('', ':0.2', ':0'))}")
        elif what < 0.45:
            words.append(f"wait:told{patience or ':0.3'}")
        elif what < 0.55 and others:
            words.append(f"tell:{chance.choice(others[-10:])}")
        else:
            words.append(chance.choice(_WORDS))
            continue
        # What was received, a second attempt must find, too: after an error, or a kill.
        words += chance.choice(([], ["raise"], ["nap:0.1"], ["nap:0.2"]))
    return " ".join([*words, chance.choice(_ENDINGS)])


class FeatureClient:
    """Calls of a client, each noted before and after."""

    def __init__(
        self,
        queue: Queue,
        journal: Journal,
        name: str,
        chance: random.Random,
        patience: str = "",
        *,
        has_large_groups: bool = False,
    ) -> None:
        self._queue = queue
        self._client = WorkflowClient(queue)
        self._journal = journal
        self._chance = chance
        self._name = f"{name}-{os.getpid()}"
        self._patience = patience
        self._has_large_groups = has_large_groups
        self._number = 0
        self._runs: list[tuple[str, str]] = []
        self._last: tuple[str, str, str] | None = None

    def act(self) -> None:
        """Do one thing."""
        self._number += 1
        acts: list[tuple[float, Callable[[], None]]] = [
            (0.38, self._submit), (0.30, self._signal), (0.06, self._signal_again), (0.08, self._group),
            (0.08, self._commit), (0.08, self._meddle), (0.06, self._crowd),
        ]  # fmt: skip
        call = self._chance.choices([each for _, each in acts], [weight for weight, _ in acts])[0]
        call()

    def begin(self) -> None:
        """Use each feature once, so that none is left to chance."""
        run = self._new_name("run-first")
        wait = self._patience or ":0.3"
        self.submit(run, f"memo:raise add:raise fan:3:collect cas wait:a{wait} raise self go", None)
        self._last = (run, "a", self._new_name("signal-first"))
        self.send(*self._last)
        self._signal_again()
        self.submit_group(self._new_name("group-first"), 3, "collect")
        self.commit(self._new_name("c-first"))

    def go_on(self) -> None:
        """Repeat what killed clients have no answer to: each call says that it may be repeated."""
        events = read(self._journal.path)
        dead = {event["target"] for event in events if event["event"] == "killing"}
        calls = {"sending": self.send, "grouping": self.submit_group, "committing": self.commit, "asking": self.submit}
        answers = {"sent": "sending", "grouped": "grouping", "committed": "committing", "acknowledged": "asking"}
        pending: dict[tuple[str, object], Event] = {}
        for event in events:
            if event["event"] in calls:
                pending[event["event"], event["id"]] = event
            elif event["event"] in answers:
                pending.pop((answers[event["event"]], event["id"]), None)
            elif event["event"] == "refused":
                pending.pop((event["call"], event["id"]), None)
        for (name, _), event in pending.items():
            if event["pid"] in dead:
                calls[name](**event["call"])

    # -- the calls ---------------------------------------------------------------------------------------------------

    def submit(self, run: str, plan: str, key: str | None) -> None:
        """Submit a run with an effect of its own."""
        self._journal.note("submitting", run=run, plan=plan, key=key, together=1)
        self._journal.note("asking", id=run, call={"run": run, "plan": plan, "key": key})
        effects = Effects()
        effects.add(f"s-{run}", 1)
        spec = RunSpec(run_id=run, headers={"plan": plan}, limit_key=key, max_attempts_per_step=10, effects=effects)
        handle = self._client.submit(spec)
        self._journal.note("acknowledged", id=run, run=run, job=handle.first_job_id)
        self._runs.append((run, handle.first_job_id))

    def send(self, run: str, name: str, id: str) -> None:
        """Send a signal with an id."""
        self._journal.note("sending", id=id, run=run, name=name, call={"run": run, "name": name, "id": id})
        try:
            answer = self._client.signal(run, name, id.encode(), signal_id=id)
        except (RunNotFoundError, InvalidStateError) as error:
            self._journal.note("refused", call="sending", id=id, error=str(error))
            return
        self._journal.note("sent", id=id, run=run, name=name, answer=answer)

    def submit_group(self, group: str, many: int, on_failure: str) -> None:
        """Submit a group of a program's own."""
        call = {"group": group, "many": many, "on_failure": on_failure}
        self._journal.note("grouping", id=group, call=call)
        self._client.submit_group(group, members_of(group, many, on_failure), on_failure=on_failure)
        self._journal.note("grouped", id=group, many=many)

    def commit(self, id: str) -> None:
        """Commit effects once, however often this is called."""
        self._journal.note("committing", id=id, call={"id": id})
        effects = Effects()
        effects.compare_put(f"c-{id}", None, b"1")
        effects.put(f"d-{id}", b"1")
        effects.add("committed", 1)
        effects.enqueue(BARE, f"commit {id}".encode())
        try:
            self._queue.commit(effects)
        except EffectConflictError as error:  # it was committed before
            self._journal.note("repeated", id=id, error=str(error))
        self._journal.note("committed", id=id)

    # -- at random ---------------------------------------------------------------------------------------------------

    def _new_name(self, kind: str) -> str:
        return f"{kind}-{self._name}-{self._number}"

    def _submit(self) -> None:
        others = [run for run, _ in self._runs]
        plan = make_feature_plan(self._chance, others, patience=self._patience)
        self.submit(self._new_name("run"), plan, self._chance.choice(KEYS))

    def _crowd(self) -> None:
        """More at once than any limit allows."""
        key = self._chance.choice(("k-0", "k-1", "h-0", "r-0", None))
        for number in range(5):
            self.submit(f"{self._new_name('run')}-{number}", self._chance.choice(("nap:0.05", "nap:0.02 add")), key)

    def _signal(self) -> None:
        if self._runs:
            run, _ = self._chance.choice(self._runs[-8:])
            self._last = (run, self._chance.choice(NAMES), self._new_name("signal"))
            self.send(*self._last)

    def _signal_again(self) -> None:
        if self._last is not None:
            self.send(*self._last)

    def _group(self) -> None:
        many, on_failure = self._chance.choice(((0, "collect"), (3, "collect"), (4, "cancel")))
        if self._has_large_groups and self._chance.random() < 0.15:
            many, on_failure = LARGE, "cancel"
        self.submit_group(self._new_name("group"), many, on_failure)

    def _commit(self) -> None:
        self.commit(self._new_name("c"))

    def _meddle(self) -> None:
        if not self._runs:
            return
        run, job = self._chance.choice(self._runs[-50:])
        try:
            if self._chance.random() < 0.5:
                self._journal.note("cancelling", run=run, job=job)
                self._journal.note("cancelled", run=run, job=job, found=self._client.cancel(run))
            else:
                self._journal.note("retrying", run=run, job=job)
                self._client.retry(run)
                self._journal.note("retried", run=run, job=job)
        except TaqubaError as error:  # what it finds may not be retried; a fault of the store shows in the rules
            self._journal.note("refused", call="retrying", id=run, error=f"{type(error).__name__}: {error}")
