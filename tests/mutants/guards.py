"""Mutants of the code: each guard that the promises stand on, broken by hand."""

from __future__ import annotations

from collections.abc import Iterator

from tests.mutants.mutant import ROOT, Mutant

_ENGINE = "taquba_workflow_sync/storage/embedded/"
_PORT = "taquba_workflow_sync/storage/port/"
_DISPATCH = "taquba_workflow_sync/queue/dispatch/"

#: What is broken (a file, the text, what stands there instead), by the promise that breaks with it.
GUARDS: dict[str, tuple[str, str, str]] = {
    # the fence
    "the door does not look whether it changed the row": (
        _ENGINE + "transitions/fence.py", ".rowcount != 1:", ".rowcount < 0:",
    ),
    "a settlement does not yield to a cancellation": (
        _ENGINE + "transitions/settle.py", "if yields_to_cancel and held.cancel_requested and held.token == token:",
        "if False:",
    ),
    "the cancel flag of another claim is taken for this one's": (
        _ENGINE + "transitions/settle.py", " and held.token == token:", ":",
    ),
    "a bulk advance takes two settlements of one row": (
        _ENGINE + "transitions/advance.py", "if seq in by_row:", "if False:",
    ),
    "the second plain settlement of a claim is answered as applied": (
        _ENGINE + "settling.py", "answers.pop(end.settlement.token)", "answers[end.settlement.token]",
    ),
    # hold
    "a claim is held though something better waits": (
        _PORT + "settlement.py", "return priority < hold.priority", "return False",
    ),
    "what waits in a lane that is served first is overlooked": (
        _ENGINE + "transitions/hold.py", "room -= waiting", "pass",
    ),
    "a claim is held though something due waits": (
        _ENGINE + "transitions/hold.py", "        promote(tx, queue)  # what", "        pass  # what",
    ),
    "a hold that was stored is not adopted": (
        _ENGINE + "transitions/settle.py", "if leave_to_hold is not None and held.token == leave_to_hold.token:",
        "if False:",
    ),
    "the room of what was let go of stays empty": (
        _ENGINE + "settling.py", "if not self.let_go:", "if True:",
    ),
    "the next step does not count as running before its commit": (
        _DISPATCH + "holds.py", "RUNNING.add(token, following.cancel_token)", "pass",
    ),
    "a hold that was refused counts as running for ever": (
        _DISPATCH + "holds.py", "RUNNING.discard(execution.following.row.token)", "pass",
    ),
    "a hold begun before the stop is begun after it": (
        _DISPATCH + "settling.py", "if state.stopping_since is None:", "if True:",
    ),
    "a claim is held on though its lease is due": (
        _DISPATCH + "holds.py", "or not execution.is_due_for_renewal(now)", "or True",
    ),
    "leave to hold is asked for once stopping": (
        _DISPATCH + "holds.py", "    if state.stop_asked:\n        return list(batch)\n", "",
    ),
    # claim and reap
    "a claim goes beyond its limit": (
        _ENGINE + "transitions/claim.py", "owner, request.limit - len(claimed))", "owner, request.limit)",
    ),
    "the claims of a dead owner are taken though they run here": (
        _ENGINE + "transitions/reap.py", "            if token not in never_reap:\n", "            if True:\n",
    ),
    "an abandoned claim is taken though it runs here": (
        _ENGINE + "transitions/reap.py", "if token in never_reap or", "if",
    ),
    "an abandoned claim is not cancelled though that was requested": (
        _PORT + "claim.py", "    if cancel_requested:\n        return JobStatus.CANCELLED\n", "",
    ),
    "an abandoned claim is never out of attempts": (
        _PORT + "claim.py", "attempts >= max_attempts", "attempts > max_attempts",
    ),
    "a dead owner is watched as if it lived": (
        _PORT + "presence.py", "    if owner_lives is False:\n        return True\n", "",
    ),
    "a living owner is watched for as short as an unknown one": (
        _PORT + "presence.py", "LEASES_WHILE_ALIVE: Final = 10", "LEASES_WHILE_ALIVE: Final = 1",
    ),
    "having been stopped counts as having watched": (
        _ENGINE + "presence.py", "max(now - known.looked - most, 0.0)", "0.0",
    ),
    "a renewed lease is watched on as the old one": (
        _ENGINE + "presence.py", "known.lease_until_ms != claim.lease_until_ms:", "False:",
    ),
    "a missing lock file proves death": (
        _ENGINE + "owners.py", "    if not path.is_file() or path.is_symlink():\n        return None\n",
        "    if not path.is_file() or path.is_symlink():\n        return False\n",
    ),
    # cancel
    "a running claim is cancelled at once by a cancel": (
        _ENGINE + "transitions/cancel.py", "or held.token in never_reap:", "or False:",
    ),
    "a renewed claim is cancelled at once on old evidence": (
        _ENGINE + "transitions/cancel.py", "evidence.tokens.get(held.token) == held.lease_until_ms",
        "held.token in evidence.tokens",
    ),
    # submit, requeue
    "a run with another input answers": (
        _PORT + "run.py", "if known.input_hash != run.input_hash and", "if False and",
    ),
    "a requeue takes what is not dead": (
        _ENGINE + "transitions/requeue.py", "if row.status != JobStatus.DEAD and", "if False and",
    ),
    "a requeue puts back a run beside its later life": (
        _ENGINE + "transitions/requeue.py", "if row.run_id is not None and", "if False and",
    ),
    # group commit
    "an interrupted caller's call goes on as if it waited": (
        _ENGINE + "group_commit.py", "call.is_gone = True", "pass",
    ),
    "what a gone caller asked for begins all the same": (
        _ENGINE + "group_commit.py", " if not call.is_gone for", " for",
    ),
    "who stops leading leaves the line alone": (
        _ENGINE + "group_commit.py", "        if self._line:\n            self.clerk.wake()\n", "",
    ),
    "a batch that gave way is lost": (
        _ENGINE + "group_commit.py", "self._line.extendleft(reversed(batch))", "pass",
    ),
    "the clerk ends without another look at the line": (
        _ENGINE + "clerk.py", "            if not self._has_waiting():\n                break\n", "            break\n",
    ),
    "who kept the clerk away does not have the line seen to": (
        _ENGINE + "clerk.py", "        if self._has_waiting():\n            self.wake()\n", "",
    ),
    "a partial write is committed with the others'": (
        _ENGINE + "commit.py", "if tx.connection.total_changes != changes:", "if False:",
    ),
    "what SQLite rolled back by itself is taken for written": (
        _ENGINE + "commit.py", "if not tx.connection.in_transaction:", "if False:",
    ),
    "a COMMIT that failed is taken for not applied": (
        _ENGINE + "commit.py", "            if is_committing:\n                # It may have",
        "            if False:\n                # It may have",
    ),
    # the turn
    "what ends during the dispatcher's turn is left lying": (
        _DISPATCH + "state.py", "self.stop_asked or self.is_awake:\n            self.wakeup",
        "self.stop_asked:\n            self.wakeup",
    ),
    "what ends during a turn of a pool's thread is left lying": (
        _DISPATCH + "pool.py", "if self._lead() or self._wants_leader():", "if self._lead():",
    ),
    "a turn of a pool's thread that failed is forgotten": (
        _DISPATCH + "dispatcher.py", "            raise failure\n", "            pass\n",
    ),
    "a thread that becomes free is not told of": (
        _DISPATCH + "dispatcher.py", "if state.sees_nothing and any(", "if False and any(",
    ),
    "after a failure every thread tries at once": (
        _DISPATCH + "dispatcher.py", "            state.is_shared = False\n            if isinstance(error, Exc",
        "            if isinstance(error, Exc",
    ),
    # waiting
    "a waiter whose line was taken out stays in it": (
        "taquba_workflow_sync/queue/waiters.py", "if table.get(key) is line:", "if True:",
    ),
    "who leaves wakes nobody": (
        "taquba_workflow_sync/queue/waiters.py", "        finally:\n            self._wake_one(queue)\n",
        "        finally:\n            pass\n",
    ),
    "a looker that leaves leaves nobody looking": (
        "taquba_workflow_sync/queue/waiters.py", "                    other.wakeup.notify()  # it looks",
        "                    pass  # it looks",
    ),
    # the dispatcher
    "a refused settlement is not tried again after a failed COMMIT": (
        _DISPATCH + "settling.py", "if isinstance(refusal, StorageError):", "if False:",
    ),
    "orphans are released at once": (
        _DISPATCH + "orphans.py", "if seen_for >= age", "if True",
    ),
    "what was abandoned here is released uncharged": (
        _DISPATCH + "orphans.py", " and token not in abandoned}", "}",
    ),
    "the heartbeat renews nothing": (
        _DISPATCH + "lane.py", ">= self.lane.lease_ms / 1000 * _RENEW_AFTER", ">= 1e9",
    ),
    # spare claims, and what is not looked at
    "a spare claim is left out though a claim was let go of": (
        _ENGINE + "settling.py", "self.request.is_spare and not self.turn.let_go and", "self.request.is_spare and",
    ),
    "a claim without room is left out though it is no spare one": (
        _ENGINE + "settling.py", "return self.request.is_spare and not", "return not",
    ),
    "what the dead have left is not taken back where no thread is free": (
        _DISPATCH + "settling.py", "is_spare = limit <= 0 and state.abandoned is None", "is_spare = limit <= 0",
    ),
    "a claim is held though what is due goes first": (
        _ENGINE + "transaction.py", "return self._scheduled[number] > 0", "return False",
    ),
    "a database that was taken away is not missed": (
        _ENGINE + "connections.py", "directory is not None and directory == self._directory_seen:",
        "self._directory_seen is not None:",
    ),
    "a directory that has just changed is trusted": (
        _ENGINE + "connections.py", "if changed >= time.time_ns() - _SETTLED_NS:", "if False:",
    ),
    # threads that leave
    "a thread that leaves a line has the next one passed over": (
        "taquba_workflow_sync/queue/waiters.py", "for waiter in tuple(line):", "for waiter in line:",
    ),
    "a looker that looks no more is trusted for ever": (
        "taquba_workflow_sync/queue/waiters.py", "time.monotonic() - self._looked_at < 2 * _TRUST", "True",
    ),
    "a pool's thread that dies keeps its place": (
        _DISPATCH + "pool.py", "            if is_counted:", "            if False:",
    ),
}  # fmt: skip


def mutants() -> Iterator[Mutant]:
    """Each guard of the list, broken."""
    for name, (file, text, instead) in GUARDS.items():
        path = ROOT / file
        source = path.read_text()
        assert text in source, f"{name}: {file} has no {text!r} any more"
        yield Mutant(name, path, source.replace(text, instead))
