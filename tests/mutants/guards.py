"""Mutants of the code: each guard that the promises stand on, broken by hand."""

from __future__ import annotations

from collections.abc import Iterator

from tests.mutants.mutant import ROOT, Mutant

_ENGINE = "taquba_workflow_sync/storage/embedded/"
_SHARED = "taquba_workflow_sync/storage/relational/"
_PORT = "taquba_workflow_sync/storage/port/"
_DISPATCH = "taquba_workflow_sync/queue/dispatch/"
_WORKFLOW = "taquba_workflow_sync/workflow/"

#: What is broken (a file, the text, what stands there instead), by the promise that breaks with it.
GUARDS: dict[str, tuple[str, str, str]] = {
    # the fence
    "the door does not look whether it changed the row": (
        _SHARED + "transitions/fence.py", ".rowcount != 1:", ".rowcount < 0:",
    ),
    "a settlement does not yield to a cancellation": (
        _SHARED + "transitions/settle.py", "        if is_asked_to_stop(tx, held):\n            raise",
        "        if False:\n            raise",
    ),
    "a deadline is taken for a cancellation": (
        _SHARED + "transitions/member.py", "if held.cancel_requested and not timing.is_asked_for_deadline(tx, held):",
        "if held.cancel_requested:",
    ),
    "the cancel flag of another claim is taken for this one's": (
        _SHARED + "transitions/settle.py", " and held.token == token:", ":",
    ),
    "a bulk advance takes two settlements of one row": (
        _SHARED + "transitions/advance.py", "if seq in by_row:", "if False:",
    ),
    "the second plain settlement of a claim is answered as applied": (
        _SHARED + "settling.py", "answers.pop(end.settlement.token)", "answers[end.settlement.token]",
    ),
    # operators
    "what a lost claim says is stored": (
        _SHARED + "transitions/progress.py", "        if held is None:\n            continue\n", "",
    ),
    "what another claim said is shown": (
        _SHARED + "sql/progress.py", "ON p.job = j.seq AND p.token = j.token", "ON p.job = j.seq",
    ),
    "progress is stored as often as it is said": (
        _DISPATCH + "heartbeat.py", "if now < self._next_progress:", "if False:",
    ),
    "a lost step goes on telling": (
        _DISPATCH + "heartbeat.py", " and not execution.is_lost and report is not None", " and report is not None",
    ),
    "a second cancel is counted again": (
        _SHARED + "transitions/stop.py", "if not held.cancel_requested and held.run_id is not None:",
        "if held.run_id is not None:",
    ),
    "a second cancel is told again": (
        _SHARED + "transitions/stop.py",
        "if held.run_id is not None and (not held.cancel_requested or timing.is_asked_for_deadline(tx, held)):",
        "if held.run_id is not None:",
    ),
    "the last reason of a cancel wins": (
        _SHARED + "sql/claims.py", "ifnull(cancel_reason, ?)", "?",
    ),
    "the reason of a cancel is lost with a release": (
        _SHARED + "transitions/end.py", "error = readable_error(held.cancel_reason)", "error = None",
    ),
    "a retry keeps the reason of a cancel": (
        _SHARED + "sql/jobs.py", "    cancel_reason = NULL, parked = 0,", "    parked = 0,",
    ),
    "a retry leaves the termination that it overwrites untold": (
        _SHARED + "transitions/requeue.py", "        note_termination(tx, row.seq)\n", "",
    ),
    "another payload is taken for the input": (
        _SHARED + "transitions/requeue.py", "belongings | Belonging.OTHER_INPUT", "belongings",
    ),
    "cleared memos are there after all": (
        _SHARED + "transitions/requeue.py", "        discard_all(tx, row.seq)\n", "        pass\n",
    ),
    "what was noted under a released claim comes after its successor": (
        _SHARED + "transitions/settle.py", "if held.belongings & Belonging.EVENTS:", "if False:",
    ),
    "events of a deleted row stay": (
        _SHARED + "transitions/belongings.py", "if belongings & Belonging.EVENTS:", "if False:",
    ),
    "the owner of an attempt is whoever ends it": (
        _SHARED + "sql/owner.py", "CASE {JOB}.owner WHEN ? THEN ? WHEN",
        "CASE WHEN ? IS NOT NULL THEN ? WHEN {JOB}.owner =",
    ),
    "a run that does not fit any more is cancelled with the others": (
        _SHARED + "transitions/many.py", "        if belongings is None:\n            continue\n",
        "        belongings = belongings or 0\n",
    ),
    "an older run of a name is retried": (
        _SHARED + "transitions/many.py", "tx.execute(sql.NEWEST_LIFE, (seq,)).fetchone() == (seq,) and not", "not",
    ),
    "a page looks at all there is": (
        _SHARED + "listing.py", "if which.most_examined is not None and index in _WALKED:", "if False:",
    ),
    "a header is found inside another one": (
        _SHARED + "conditions.py", """return "{" + member, "," + member""", "return member[1:], member[1:]",
    ),
    "everything is cancelled without a word": (
        "taquba_workflow_sync/workflow/selection.py", "if is_narrowed == every:", "if is_narrowed and every:",
    ),
    # memo
    "a memo of a step is kept over its end": (
        _SHARED + "belongings.py", "Belonging.STEP_MEMO | Belonging.REFUSED", "Belonging.REFUSED",
    ),
    "a step's memo is not discarded": (
        _SHARED + "transitions/belongings.py", "        memo.discard_step(tx, seq)", "        pass",
    ),
    "what a swept run has noted stays": (
        _SHARED + "transitions/belongings.py", "        memo.discard_all(tx, seq)", "        pass",
    ),
    "a failed run loses its step's memo": (
        _SHARED + "transitions/end.py", "is_over = verdict is Verdict.SUCCEEDED or", "is_over = True or",
    ),
    "a zombie reads the memo of a later step": (
        _SHARED + "reading/memo.py", "or step is None or step == of_step else None", "or True else None",
    ),
    "a memo has no most entries": (_PORT + "memo.py", "return entries < MOST_ENTRIES and", "return"),
    "an entry over the most is written": (_PORT + "memo.py", "    if entries >= MOST_ENTRIES:", "    if False:"),
    "a run's memos have no most bytes": (_PORT + "memo.py", "    if run_bytes + size > MOST_BYTES:", "    if False:"),
    "how full the other memo is stays as it was": (
        _SHARED + "transitions/memo.py",
        "    tx.memos.pop((token, _OTHER[scope]), None)\n    return filled", "    return filled",
    ),
    "what is known of a memo is not looked at in a transaction": (
        _SHARED + "transitions/memo.py",
        "if tx.execute(sql.PUT_MEMO, (*entry, seq, job_id, token, without)).rowcount != 1:",
        "if tx.execute(sql.PUT_MEMO, (*entry, seq, job_id, token, without)).rowcount > 1:",
    ),
    "a changed entry is returned": (_SHARED + "overflow.py", "or checksum(data) != stored:", "or False:"),
    "garbage stays": (
        _SHARED + "transitions/sweep.py", "    removed += collect(tx, max(SWEEP_LIMIT - removed, 0))\n", "",
    ),
    "garbage goes in pieces of any size": (
        _SHARED + "transitions/garbage.py", "            if size >= MOST_BYTES:\n                return removed\n", "",
    ),
    "two threads call for one key": (
        "taquba_workflow_sync/workflow/memo.py",
        "        flight.lock.acquire()\n", "        flight.lock.acquire(blocking=False)\n",
    ),
    "a call for a key from within its own waits for ever": (
        "taquba_workflow_sync/workflow/memo.py", "if flight.thread == threading.get_ident():", "if False:",
    ),
    # threads that commit in their own place
    "who commits in its own place wakes nobody": (
        _SHARED + "group_commit.py",
        "                if call.can_lead:\n                    call.notify()",
        "                if call.can_lead:\n                    pass",
    ),
    "the main thread commits in its own place": (
        _SHARED + "group_commit.py", "if threading.current_thread() is threading.main_thread():", "if False:",
    ),
    "company is waited for though it is there": (
        _SHARED + "group_commit.py",
        "            if len(line) == self._company:\n                self._wake_gatherer()\n", "",
    ),
    "company that did not come is waited for again": (
        _SHARED + "group_commit.py", "self._company = len(batch)", "self._company = max(self._company, len(batch))",
    ),
    # put back
    "a claim that is put back is charged": (
        _SHARED + "sql/fence.py", "PUT_BACK = _leave(f\"status = ?, {_DUE}, is_retry = ?, attempts = attempts - 1\")",
        "PUT_BACK = _leave(f\"status = ?, {_DUE}, is_retry = ?\")",
    ),
    # groups
    "members are seen before their group is open": (
        _SHARED + "transitions/enqueue.py", "parked=_HELD if is_held else 0,", "parked=0,",
    ),
    "a group is opened without all its members": (
        _SHARED + "transitions/group.py", "if group.state == GroupState.WRITING and group.written != group.total:",
        "if False:",
    ),
    "another group of the same name is taken for it": (
        _PORT + "group.py", "if fingerprint != group.fingerprint:", "if False:",
    ),
    "members are written twice": (
        _SHARED + "transitions/group.py", "if position != written:", "if False:",
    ),
    "a zombie writes a group": (
        _SHARED + "sql/group.py", "WHERE seq = ? AND id = ? AND token = ? AND status = 'claimed'",
        "WHERE seq = ? AND id = ? AND ifnull(?, 1)",
    ),
    "a members name that a run has is written all the same": (
        _SHARED + "transitions/group.py", "if taken is not None:", "if False:",
    ),
    "the end of a member is not counted": (
        _SHARED + "transitions/end.py", "    if is_member:\n", "    if False:\n",
    ),
    "the last member wakes nobody": (
        _SHARED + "transitions/member.py",
        "    if group.waiter is not None:\n        deliver_group(tx, group.waiter, group.id)\n    if",
        "    if",
    ),
    "a failure that is enough wakes nobody": (
        _SHARED + "transitions/member.py", "        if group.waiter is not None:\n            deliver_group(",
        "        if False:\n            deliver_group(",
    ),
    "a cancelled member wakes who waits for a failure": (
        _SHARED + "rows.py", "self.cancels_on_failure and self.failed > 0",
        "self.cancels_on_failure and self.failed + self.cancelled > 0",
    ),
    "a second run waits for a group": (
        _SHARED + "transitions/wait.py", "if group.waiter not in (None, seq):", "if False:",
    ),
    "a group goes beyond what may wait": (
        _SHARED + "transitions/group.py", "        _check_waiting(tx, queue, new, members)\n", "        pass\n",
    ),
    "only the first of a group has to have room": (
        _SHARED + "transitions/group.py", "key, new.total - 1, many - 1)", "key, 0, 0)",
    ),
    "a group that is not open is waited for": (
        _SHARED + "transitions/wait.py", "or (group.state != GroupState.OPEN and name not in opens):", "or False:",
    ),
    "a step cannot wait for the group that it opens": (
        _SHARED + "transitions/wait.py", "or (group.state != GroupState.OPEN and name not in opens):",
        "or group.state != GroupState.OPEN:",
    ),
    "a group is opened with a step though it lacks members": (
        _SHARED + "transitions/effects.py", "                group.check_opening(self._tx, name, fingerprint)\n", "",
    ),
    "what a step submits is nobodys child": (
        _SHARED + "transitions/effects.py", "if parent is None or job.run is None:", "if True:",
    ),
    "a held member has a deadline": (
        _SHARED + "transitions/timing.py", "None if is_held else ends.first_ms", "ends.first_ms",
    ),
    "a released member has no deadline": (
        _SHARED + "transitions/group.py", "    if tx.queue(group.queue).timed:\n", "    if False:\n",
    ),
    "a deadline goes before the cancellation of a group": (
        _SHARED + "transitions/group.py",
        "if not held.cancel_requested or timing.is_asked_for_deadline(tx, held):", "if not held.cancel_requested:",
    ),
    "what is set aside while it waits forgets for what": (
        _ENGINE + "repair/quarantine.py", "    if is_sound(tx, seq):\n", "    if False:\n",
    ),
    "a passed timeout beats the end of the group": (
        _SHARED + "transitions/wait.py",
        "stored._replace(signal=group.id if group is not None and group.wakes else None)",
        "stored._replace(signal=None)",
    ),
    "a claim does not know that its group was cancelled": (
        _SHARED + "transitions/claim.py",
        "is_asked_to_stop or is_group_cancelled(tx, row.seq, row.belongings)", "is_asked_to_stop",
    ),
    "a waiting parents cancellation leaves its group running": (
        _SHARED + "transitions/end.py", "if claim is None and held.belongings & WAIT:", "if False:",
    ),
    "any end of a parent cancels its group": (
        _SHARED + "transitions/end.py", "if claim is None and held.belongings & WAIT:",
        "if held.belongings & WAIT:",
    ),
    "a member is swept before its group has ended": (
        _SHARED + "transitions/end.py", "None if keep_ms is None or is_member else", "None if keep_ms is None else",
    ),
    "retrying a member leaves its group ended": (
        _SHARED + "transitions/requeue.py", "if of_group is not None:", "if False:",
    ),
    "a retry of many ends at a group that is being cancelled": (
        _SHARED + "transitions/many.py", "except (InvalidStateError, JobNotFoundError):", "except ZeroDivisionError:",
    ),
    "a group that has come makes room for a signal": (
        _SHARED + "transitions/signals.py", "is_of_signal = waits is not None and waits.kind == WaitKind.SIGNAL",
        "is_of_signal = True",
    ),
    "a page of children looks at all of them": (
        _SHARED + "listing.py", "    if which.most_examined is None:\n        return None\n", "    return None\n",
    ),
    "a group that is being cancelled is retried": (
        _SHARED + "transitions/group.py", "if group.cancel_requested and not group.has_ended:", "if False:",
    ),
    "a living writers group is swept": (
        _SHARED + "claims_seen.py", "each != own and not (", "not (False and ",
    ),
    "an open group is forgotten": (
        _SHARED + "transitions/group.py", "    if not group.has_ended:\n", "    if False:\n",
    ),
    # hold
    "a claim is held though something better waits": (
        _PORT + "settlement.py", "return rank < hold.rank", "return False",
    ),
    "what waits in a lane that is served first is overlooked": (
        _SHARED + "transitions/hold.py", "room -= waiting", "pass",
    ),
    "a claim is held though something due waits": (
        _SHARED + "transitions/hold.py", "        promote(tx, queue)  # what", "        pass  # what",
    ),
    "a hold that was stored is not adopted": (
        _SHARED + "transitions/settle.py", "if leave_to_hold is not None and held.token == leave_to_hold.token:",
        "if False:",
    ),
    "the room of what was let go of stays empty": (
        _SHARED + "settling.py", "if not self.let_go:", "if True:",
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
        _SHARED + "transitions/claim.py", "most = request.limit - len(claimed)", "most = request.limit",
    ),
    "the claims of a dead owner are taken though they run here": (
        _SHARED + "transitions/reap.py", "            if token not in never_reap:\n", "            if True:\n",
    ),
    "an abandoned claim is taken though it runs here": (
        _SHARED + "transitions/reap.py", "if token in never_reap or", "if",
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
        _SHARED + "presence.py", "max(now - known.looked - most, 0.0)", "0.0",
    ),
    "a renewed lease is watched on as the old one": (
        _SHARED + "presence.py", "known.lease_until_ms != claim.lease_until_ms:", "False:",
    ),
    "a missing lock file proves death": (
        _ENGINE + "owners.py", "    if not path.is_file() or path.is_symlink():\n        return None\n",
        "    if not path.is_file() or path.is_symlink():\n        return False\n",
    ),
    # cancel
    "a running claim is cancelled at once by a cancel": (
        _SHARED + "transitions/cancel.py", "or held.token in never_reap:", "or False:",
    ),
    "a renewed claim is cancelled at once on old evidence": (
        _SHARED + "transitions/cancel.py", "evidence.tokens.get(held.token) == held.lease_until_ms",
        "held.token in evidence.tokens",
    ),
    # submit, requeue
    "a run with another input answers": (
        _PORT + "run.py", "if known.input_hash != run.input_hash and", "if False and",
    ),
    "a requeue takes what is not dead": (
        _SHARED + "transitions/requeue.py", "if row.status != JobStatus.DEAD and", "if False and",
    ),
    "a requeue puts back a run beside its later life": (
        _SHARED + "transitions/requeue.py", "(row.queue, row.run_id)).fetchone() is not None:\n        return True",
        "(row.queue, row.run_id)).fetchone() is None and False:\n        return True",
    ),
    # signals
    "a signal is delivered to a run that runs": (
        _SHARED + "transitions/signals.py", "is_named and waits.is_open and", "is_named and",
    ),
    "a second signal of a name is delivered": (
        _SHARED + "transitions/signals.py", "waits.is_open and waits.signal is None", "waits.is_open",
    ),
    "a known id of a signal is accepted again": (
        _SHARED + "transitions/signals.py", "row is not None and _is_known(tx, row, signal):", "False:",
    ),
    "an ended run takes a signal": (
        _SHARED + "transitions/signals.py", "    if row.finished_ms is not None:\n        raise",
        "    if False:\n        raise",
    ),
    "a full buffer refuses the signal that is waited for": (
        _SHARED + "transitions/signals.py", "    if was_delivered or not _is_waited_for(waits, signal):",
        "    if True:",
    ),
    "the received signal counts as buffered": (
        _SHARED + "transitions/signals.py", "len(before) - has_received", "len(before)",
    ),
    "clearing takes the received signal along": (
        _SHARED + "transitions/signals.py", "spared or 0", "0",
    ),
    "a run that waits for a signal is woken as if for a time": (
        _SHARED + "transitions/signals.py", "    if waits is not None and waits.is_open:\n", "    if False:\n",
    ),
    "a signal that no claim has found is used up by a cancellation": (
        _SHARED + "transitions/signals.py", " or waited.is_open:", ":",
    ),
    "a signal is never used up": (
        _SHARED + "transitions/belongings.py", "        signals.end_wait(tx, seq)", "        pass",
    ),
    "signals that are there are lost with a wrong count": (
        _SHARED + "transitions/signals.py", " or _has_any(tx, seq):", ":",
    ),
    "a wait takes the signal that its step uses up": (
        _SHARED + "transitions/wait.py", "after = (before.signal or 0) if", "after = 0 if",
    ),
    "a release leaves a wait as its claim has fixed it": (
        _SHARED + "transitions/settle.py", "            reopen(tx, held.seq, held.belongings, held.ordinal)\n", "",
    ),
    "a release opens a wait that an earlier claim has fixed": (
        _SHARED + "transitions/wait.py", "stored.ordinal == ordinal and ", "",
    ),
    "a later claim decides anew how a wait has ended": (
        _SHARED + "transitions/wait.py", "        _write(tx, seq, stored._replace(ordinal=ordinal))", "        pass",
    ),
    "a damaged wait is run": (
        _SHARED + "signals.py", "if self.crc != self.right_crc(seq):", "if False:",
    ),
    "a wait without an end is taken for a time": (
        _SHARED + "reading/next_work.py", " and at < NEVER_MS]", "]",
    ),
    "a claim is held by a step that is to wait": (
        _PORT + "settlement.py", "if action.wait is not None or not (", "if not (",
    ),
    "a wait is settled in bulk": (
        _SHARED + "transitions/settle.py", "        and action.wait is None\n", "",
    ),
    "signals take no room from memos": (
        _SHARED + "transitions/memo.py", " + _bytes_of_signals(tx, seq, belongings)", "",
    ),
    "memos take no room from signals": (
        _SHARED + "transitions/signals.py", "box.bytes + memo.used_bytes(tx, row.seq, row.belongings)", "box.bytes",
    ),
    "what ended while it waited goes on without its signal": (
        _SHARED + "transitions/requeue.py", "if status is JobStatus.SCHEDULED and", "if False and",
    ),
    # effects
    "what was lost is told of a conflict": (
        _SHARED + "transitions/settle.py", "        check_held(held, token)", "        pass",
    ),
    "effects are left out where a step goes on in bulk": (
        _SHARED + "transitions/settle.py", "    if settlement.effects:\n        return False\n", "",
    ),
    "an expectation is not looked at": (
        _PORT + "effects.py", "if expected != (None if found is None else found.value):", "if False:",
    ),
    "what has expired is there to an expectation": (
        _PORT + "effects.py", "if found is not None and not found.is_live(now_ms):", "if False:",
    ),
    "an add ends the time to live": (
        _PORT + "effects.py", "+ delta), found.expires_ms)", "+ delta))",
    ),
    "an add takes any text for a number": (
        _PORT + "effects.py", "if not _INTEGER.match(found.value):", "if False:",
    ),
    "a run that ends still holds its name": (
        _SHARED + "transitions/enqueue.py", "if ending is not None and named.id", "if False and named.id",
    ),
    "the effects of a submit are applied though its run is there": (
        _SHARED + "transitions/effects.py", "            self.add(effects)\n        return",
        "            pass\n        self.add(effects)\n        return",
    ),
    "effects are lost where leave to hold is asked for": (
        _DISPATCH + "holds.py", "        settlement.effects,\n", "        (),\n",
    ),
    "what a runner staged that raised is applied": (
        _WORKFLOW + "conclude.py", "return isinstance(returned, KNOWN) and not isinstance(action, DeadLetter)",
        "return True",
    ),
    "a refusal is not counted": (
        _SHARED + "transitions/settle.py", "            if is_refusal:\n", "            if False:\n",
    ),
    "the count of refusals outlives its step": (
        _SHARED + "belongings.py", "Belonging.STEP_MEMO | Belonging.REFUSED", "Belonging.STEP_MEMO",
    ),
    "the count of refusals outlives a retry": (
        _SHARED + "transitions/requeue.py", "if belongings & Belonging.REFUSED:", "if False:",
    ),
    "the count of refusals outlives another failure": (
        _SHARED + "transitions/effects.py",
        "    if held.belongings & Belonging.REFUSED:\n        tx.execute(sql.FORGET",
        "    if False:\n        tx.execute(sql.FORGET",
    ),
    "a program is not told that nobody listens": (
        _SHARED + "transitions/effects.py", "                if self._sender is None:\n", "                if False:\n",
    ),
    "a dropped signal is not noted": (
        _SHARED + "transitions/effects.py", "        for dropped in self._dropped:\n", "        for dropped in ():\n",
    ),
    "what a step submits before is unknown to its signals": (
        _SHARED + "transitions/effects.py", "        if run not in self._batch.runs:", "        if True:",
    ),
    "a member that nobody sees takes a signal": (
        _SHARED + "transitions/signals.py", " or _is_hidden(tx, row, opens):", ":",
    ),
    "a run that ends takes its own signal": (
        _SHARED + "transitions/signals.py", "    if row.id == ending:\n", "    if False:\n",
    ),
    "the signals of one commit do not know of each other": (
        _SHARED + "transitions/effects.py", "effect.signal, before, self._ending", "effect.signal, (), self._ending",
    ),
    "two signals of one commit are both delivered": (
        _SHARED + "transitions/signals.py", "    if was_delivered or not _is", "    if not _is",
    ),
    "refusals have no end": (
        _WORKFLOW + "refusals.py", "if refusals >= MOST_REFUSALS:", "if False:",
    ),
    "what no retry can help is tried again": (
        _WORKFLOW + "refusals.py", "    if refusal.is_permanent:\n        return DeadLetter(why)\n", "",
    ),
    "effects are staged after the runner has returned": (
        "taquba_workflow_sync/queue/effects.py", "self._is_sealed or seals", "False",
    ),
    "a key has several effects": (
        "taquba_workflow_sync/queue/effects.py", "if before is not None and not (", "if False and not (",
    ),
    "the effects of a hook are refused for good": (
        _WORKFLOW + "hooks.py", "                if other is not None:\n                    return other\n", "",
    ),
    "a hook that a cancel calls is left claimed when its effects are refused": (
        _WORKFLOW + "endings.py", "refusal if other is None else self._handle.settle(other)", "refusal",
    ),
    # group commit
    "an interrupted caller's call goes on as if it waited": (
        _SHARED + "group_commit.py", "call.is_gone = True  # what has begun", "pass  # what has begun",
    ),
    "what a gone caller asked for begins all the same": (
        _SHARED + "group_commit.py", " if not call.is_gone for", " for",
    ),
    "who stops leading leaves the line alone": (
        _SHARED + "group_commit.py", "        if self._line:\n            self.clerk.wake()\n", "",
    ),
    "a batch that gave way is lost": (
        _SHARED + "group_commit.py", "self._line.extendleft(reversed(batch))", "pass",
    ),
    "the clerk ends without another look at the line": (
        _SHARED + "clerk.py", "            if not self._has_waiting():\n                break\n", "            break\n",
    ),
    "who kept the clerk away does not have the line seen to": (
        _SHARED + "clerk.py", "        if self._has_waiting():\n            self.wake()\n", "",
    ),
    "a refusal after a write is committed with the others'": (
        _ENGINE + "commit.py", "except TaqubaError as error:\n            if connection.total_changes != changes:",
        "except TaqubaError as error:\n            if False:",
    ),
    "what a fault of ours has written is committed with the others'": (
        _ENGINE + "commit.py", "                raise\n            if connection.total_changes != changes:",
        "                raise\n            if False:",
    ),
    # repair
    "a quarantined member is swept before its group has ended": (
        _ENGINE + "repair/quarantine.py", "keep_ms is None or is_member else", "keep_ms is None else",
    ),
    "a quarantined run is counted among those with an end": (
        _ENGINE + "repair/quarantine.py", 'if had_end and row["finished_ms"] is None:', "if False:",
    ),
    "a member that was quarantined before its group was open is counted as pending": (
        _SHARED + "transitions/group.py", "group.total - group.ended", "group.total",
    ),
    "a group with a member quarantined before does not cancel the others": (
        _SHARED + "transitions/group.py", "    if group.wakes:\n", "    if False:\n",
    ),
    "a group's counters that cannot be right are left so by an end": (
        _SHARED + "transitions/member.py", "if group.ended > group.total:", "if False:",
    ),
    "a group's counters that cannot be right are left so by a retry": (
        _SHARED + "transitions/member.py", "if not group.failed:", "if False:",
    ),
    "a group that was counted anew stays ended": (
        _SHARED + "transitions/member.py", "tx.execute(sql.UNEND_GROUP, (number,))", "pass",
    ),
    "a group that was counted anew does not end": (
        _ENGINE + "repair/recount.py", "if group.ended_ms is None:", "if False:",
    ),
    # one commit for a signal and its run
    "a signal that is known submits its run again": (
        _SHARED + "transitions/effects.py", "if signals.is_duplicate(tx, queue, run_id, signal):", "if False:",
    ),
    "an effect takes the id of the notification that comes with it": (
        _SHARED + "transitions/enqueue.py", "job.id == batch.notification", "False",
    ),
    "a page of values has no bound but its rows": (
        _SHARED + "reading/kv.py", " or size > PAGE_BYTES", "",
    ),
    "who has lost its claim is told of the group it would wait for": (
        _SHARED + "transitions/advance.py",
        "        check_held(held, token)  # who has lost the claim is told that, whatever became of the group\n", "",
    ),
    "what SQLite rolled back by itself is taken for written": (
        _ENGINE + "commit.py", "if not connection.in_transaction:", "if False:",
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
    # limits
    "a row enters its line without a slot": (
        _SHARED + "transitions/line.py", "has_room = room.slots >= 0 and room.line >= 0", "has_room = True",
    ),
    "nobody is let in when a slot becomes free": (
        _SHARED + "transitions/line.py", "    if key is not None:\n        let_in(tx, queue, key)\n",
        "    if key is not None:\n        pass\n",
    ),
    "a better parked row does not swap": (
        _SHARED + "transitions/line.py", "or min(parked) >= last[0]:", "or True:",
    ),
    "what is in line does not count for a rate": (
        _SHARED + "transitions/line.py", "line = limit.rate.most - in_line - rates", "line = limit.rate.most - rates",
    ),
    "a claim is not noted for its rate": (
        _SHARED + "transitions/limit.py", "rates.note(tx, queue, key, limit.rate, seqs)", "pass",
    ),
    "a claim that never began counts for a rate": (
        _SHARED + "transitions/line.py", "        rates.forget(tx, held.queue, key, held.seq)", "        pass",
    ),
    "a lowered limit parks nothing": (
        _SHARED + "transitions/limit.py", "moved += park_surplus(tx, queue, key, MOST_ROWS - moved)", "pass",
    ),
    "a cleared limit lets nobody in": (
        _SHARED + "transitions/limit.py", "moved += let_in(tx, queue, key, MOST_ROWS - moved)", "pass",
    ),
    "a run keeps a slot that is one too many": (
        _SHARED + "transitions/line.py", ".slots >= (1 if status is JobStatus.SCHEDULED else 0)", ".slots >= -99",
    ),
    "a keyed run is held": (
        _SHARED + "transitions/settle.py", "            and not held.belongings & RANKED\n", "",
    ),
    "a claim is held in a paused queue": (
        _SHARED + "transitions/hold.py", "if queues and goes_back(tx, lanes[-1]):", "if False:",
    ),
    "a paused queue is claimed from": (
        _SHARED + "transitions/limit.py", "    if tx.queue(queue).paused in CLOSED:\n        return 0\n", "",
    ),
    "a full queue takes more": (
        _PORT + "limit.py", "waiting >= max_waiting:", "waiting > max_waiting:",
    ),
    "the runs before it in a batch do not wait": (
        _SHARED + "transitions/enqueue.py", "batch.new[each] = batch.new.get(each, 0) + 1", "pass",
    ),
    "the clock of the line goes back": (
        _SHARED + "transaction.py", "self._line_clock = max(self.now_ms, stored)", "self._line_clock = self.now_ms",
    ),
    "a fair advance keeps its rank": (
        _SHARED + "transitions/advance.py", "    if held.aging_ms is None or action.keeps_place:", "    if True:",
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
        _SHARED + "settling.py", "self.request.is_spare and not self.turn.let_go and", "self.request.is_spare and",
    ),
    "a claim without room is left out though it is no spare one": (
        _SHARED + "settling.py", "return self.request.is_spare and not", "return not",
    ),
    "what the dead have left is not taken back where no thread is free": (
        _DISPATCH + "settling.py", "is_spare = limit <= 0 and state.abandoned is None", "is_spare = limit <= 0",
    ),
    "a claim is held though what is due goes first": (
        _SHARED + "transaction.py", "return self.queue(number).scheduled > 0", "return False",
    ),
    "a database that was taken away is not missed": (
        _ENGINE + "connections.py", "directory is not None and directory == self._directory_seen:",
        "self._directory_seen is not None:",
    ),
    "a directory that has just changed is trusted": (
        _ENGINE + "connections.py", "if changed >= time.time_ns() - _SETTLED_NS:", "if False:",
    ),
    # time limits
    "a settlement does not yield to the deadline": (
        _SHARED + "transitions/settle.py", "None if settlement.ignores_deadline else timing.late(tx, held)", "None",
    ),
    "a settlement does not yield to the step timeout": (
        _SHARED + "transitions/settle.py", "if end is not None and end.ms <=", "if end is None and 0 <=",
    ),
    "a cancellation after the deadline is taken for that": (
        _SHARED + "transitions/stop.py", "if held.belongings & TIMING:", "if False:",
    ),
    "a released claim has started": (
        _SHARED + "transitions/settle.py", "timing.wait(tx, held, has_started=False)", "timing.wait(tx, held)",
    ),
    "a step that goes on under its claim has not started": (
        _SHARED + "transitions/hold.py", "    timing.wait(tx, held)", "    pass",
    ),
    "what is claimed expires": (
        _SHARED + "transitions/timing.py", "if ends.expires_ms is not None:", "if False:",
    ),
    "a retry keeps a deadline that has passed": (
        _PORT + "timing.py", "return Ends(None, None)", "return ends",
    ),
    "a late claim that was taken back is tried again": (
        _PORT + "claim.py", "if is_late or attempts", "if attempts",
    ),
    "a late run that was claimed is run": (
        "taquba_workflow_sync/workflow/steps.py", "if late is not None and late.overrun is Overrun.DEADLINE:",
        "if False:",
    ),
    "the settings of a step carry over": (
        _SHARED + "transitions/settings.py", "return defaults, next_step(defaults, given)", "return None",
    ),
    "a run with settings is held on without them": (
        _DISPATCH + "holds.py", " or not _needs_no_claim(execution.row.settings, action.settings):", ":",
    ),
    "nobody looks after late runs while every thread works": (
        _DISPATCH + "maintenance.py", "self._state.has_late = any(", "self._state.has_late = False and any(",
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
    # schedules
    "a firing is stored though the schedule was fired, paused or redefined since": (
        _SHARED + "transitions/schedule.py",
        "        return None\n    tx.transitions.add(\"fire\")", "        pass\n    tx.transitions.add(\"fire\")",
    ),
    "a pause is stored over what it has not seen": (
        _SHARED + "transitions/schedule.py", "if kept is None or _seen(kept) != seen:\n        return False",
        "if kept is None:\n        return False",
    ),
    "a definition replaces one that it has not seen": (
        _SHARED + "transitions/schedule.py", "if (None if kept is None else kept.revision) != expected:", "if False:",
    ),
    "a redefinition has the revision of the one before": (
        _SHARED + "sql/schedule.py", "SET kind = ?, revision = ?,", "SET kind = ?, revision = max(revision, 0 * ?),",
    ),
    "a firing does not look whether the last run is active": (
        _SHARED + "transitions/schedule.py", "if skips_active and", "if False and",
    ),
    "a name that is taken fails the firing": (
        _SHARED + "transitions/schedule.py", "except InputMismatchError:", "except ZeroDivisionError:",
    ),
    "a paused schedule is due": (
        _SHARED + "sql/schedule.py", "_DUE = f\"FROM {SCHEDULE} INDEXED BY taquba_schedule_due WHERE paused = 0 AND",
        "_DUE = f\"FROM {SCHEDULE} WHERE",
    ),
    "a schedule is fired without its watermark": (
        "taquba_workflow_sync/workflow/firing.py", "mark = last if number == len(pieces) else",
        "mark = None if True else",
    ),
    "a watermark far ahead is left": (
        "taquba_workflow_sync/workflow/firing.py", "            if is_ahead:", "            if False:",
    ),
    "what is left alone is tried again at each look": (
        "taquba_workflow_sync/workflow/firing.py", "if self._left_alone.get(name) == row.seen:", "if False:",
    ),
    "a fixed time that the clocks repeat comes twice": (
        "taquba_workflow_sync/workflow/recurrence.py", "wall = max(wall, self._shown_before(at))", "pass",
    ),
    "a fixed time that the clocks skip does not come": (
        "taquba_workflow_sync/workflow/recurrence.py", "if is_fixed and match < turn + following:", "if False:",
    ),
    "a correction of the clock counts as summer time": (
        "taquba_workflow_sync/workflow/recurrence.py", " and abs(shift) < _CORRECTION", "",
    ),
    "until is inclusive": (
        "taquba_workflow_sync/workflow/recurrence.py", "found >= self.until_ms", "found > self.until_ms",
    ),
    "a stopping dispatcher fires on": (
        _DISPATCH + "maintenance.py", "            self._firing.stop()\n", "",
    ),
    "a run until idle fires again as it goes": (
        _DISPATCH + "dispatcher.py", "            self.error = error\n        self._firing.stop()",
        "            self.error = error",
    ),
    "a close ends the dispatcher under a step that still runs": (
        _DISPATCH + "firing.py", "except StoreClosedError:", "except KeyError:",
    ),
    "a thread that says lines outlives a close beside its start": (
        _DISPATCH + "telling.py", "with self._lock:  # a thread that another", "if True:  # a thread that another",
    ),
    "a handler of the log that raises fails a step": (
        _WORKFLOW + "steps.py", "say(partial(say_start, row))", "say_start(row)",
    ),
    "what a failed commit was to count is forgotten": (
        _DISPATCH + "settling.py", "if counting is not None and not counting.is_stored:", "if False:",
    ),
    "one queue's firing that is refused keeps the others waiting": (
        _WORKFLOW + "serving.py", "refused = refused or error", "raise",
    ),
    "a purge passes over the run at each cut": (
        _SHARED + "transitions/remove.py", "Piece(removed, [], str(last))", "Piece(removed, [], str(seq))",
    ),
    "a purge is as large as what it frees": (
        _SHARED + "transitions/remove.py", "if size >= MOST_BYTES:", "if False:",
    ),
    "a store that is open is restored from": (
        _ENGINE + "backup.py", "        _refuse_open_store(database)\n", "",
    ),
    "a claim that came to nothing tells of what it took back": (
        _SHARED + "settling.py", "            write.operation.forget()\n", "            pass\n",
    ),
    "what is taken back has no line": (
        _DISPATCH + "settling.py", "            self._tell_of(requests)\n", "",
    ),
    "what is past its time is told of by nobody": (
        _SHARED + "transitions/late.py", "note(tx, held, JobStatus.DEAD, late.why)", "pass",
    ),
    # workers, and what is under limits
    "who is gone is shown as idle": (
        _PORT + "worker.py", " if lives.get(owner, False) is not False}", "}",
    ),
    "who has very many claims hides the others": (
        _SHARED + "sql/worker.py", "OVER (PARTITION BY owner ORDER BY", "OVER (ORDER BY",
    ),
    "a claim that cannot be read keeps the others from being shown": (
        _SHARED + "reading/worker.py", "if not _is_readable(claim) or", "if",
    ),
    "a claim without its times keeps the others from being shown": (
        _SHARED + "reading/worker.py", " or None in (claim.owner, claim.claimed_ms, claim.lease_until_ms):", ":",
    ),
    "a process whose host cannot be read is shown with it": (
        _SHARED + "reading/worker.py", " if type(host) is str and type(pid) is int}", "}",
    ),
    "a claim without a step timeout is overdue": (
        _SHARED + "reading/worker.py", "0 < timeout_ms <=", "0 <",
    ),
    "an idle worker writes at each look that it is there": (
        _SHARED + "claims_seen.py", "        if owner != self._enrolled:\n", "        if True:\n",
    ),
    "what runs until idle writes that it is there": (
        _DISPATCH + "maintenance.py", "        if not self.is_lasting:\n            return\n", "",
    ),
    "a suspect is shown as alive": (
        "taquba_workflow_sync/storage/postgres/observing.py", "(None if is_free else True)", "True",
    ),
    "keys are counted to their end, however many": (
        _SHARED + "sql/usage.py", "AND place <= ? AND before < ?", "AND (place <= ? OR before < ?)",
    ),
    "a run that keeps its slot is not shown as parked": (
        _SHARED + "sql/usage.py", "before + {_FOR_SLOT} + {_FOR_RATE}", "before + {_FOR_SLOT} + 0 * {_FOR_RATE}",
    ),
    "a key without a limit is shown": (
        _PORT + "usage.py", "(each.claimed and key.startswith(prefixes))", "each.claimed",
    ),
    "a counter that cannot be read is shown": (
        _SHARED + "reading/usage.py", "max(claimed or 0, 0), max(parked or 0, 0)", "claimed, parked",
    ),
}  # fmt: skip


def mutants() -> Iterator[Mutant]:
    """Each guard of the list, broken."""
    for name, (file, text, instead) in GUARDS.items():
        path = ROOT / file
        source = path.read_text()
        assert source.count(text) == 1, f"{name}: {file} has {text!r} {source.count(text)} times, not once"
        yield Mutant(name, path, source.replace(text, instead))
