"""A deterministic cooperative scheduler: actors are threads of which one runs, and every step asks who goes on.

What an actor is about to do it says with :func:`yield_point`; where it would have to wait it calls :func:`wait_for`.
Outside of an actor both return at once, so that instrumented code works as ever in the thread that sets up and looks.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

#: A wait of at most so many seconds may run out once nobody else can go on; a longer one would be a hang.
SHORT_WAIT: Final = 1.0
WAIT: Final = "wait"
#: The names of actors that others start.
_STARTED: Final = "klmnopqrstuvwxyz"
_STEP_LIMIT: Final = 20_000
_REAL_TIME_LIMIT: Final = 60.0

_here = threading.local()


class Touch(NamedTuple):
    """What a step reads or writes that others may read or write as well."""

    resource: str
    is_write: bool


class Step(NamedTuple):
    """What an actor is about to do."""

    label: str
    touches: tuple[Touch, ...] = ()


class Decision(NamedTuple):
    """A moment at which more than one actor could go on: the default comes first."""

    options: tuple[str, ...]
    chosen: str
    is_free: bool
    #: Who waits only once, so that there is an end to how often the wait can run out.
    waits_once: frozenset[str]

    def cost(self, option: str) -> int:
        """How many preemptions it takes to choose ``option``: none where the actor that ran cannot go on.

        To let a wait run out costs one where it is only begun again: there is no end to how often it could.
        """
        if option == self.options[0]:
            return 0
        is_without_end = option.isupper() and option.lower() not in self.waits_once
        return 1 if is_without_end or not self.is_free else 0


class Abandoned(BaseException):
    """The schedule is over: raised inside the actors that are left in a deadlock."""


class Actor:
    """One thread of a schedule."""

    def __init__(self, name: str, body: Callable[[], None], schedule: Schedule) -> None:
        self.name = name
        self.schedule = schedule
        self.baton = threading.Lock()
        self.baton.acquire()
        self.waits_for: str | None = None
        self.can_expire = False
        self.waits_once = False
        self.has_expired = False
        self.was_refused_by: str | None = None
        self.written = 0
        self.has_begun = False
        self.is_done = False
        self.made: Counter[str] = Counter()
        self.error: BaseException | None = None
        self._body = body
        self.thread = threading.Thread(target=self._run, name=f"actor-{name}", daemon=True)

    @property
    def is_ready(self) -> bool:
        return not self.is_done and self.waits_for is None

    def _run(self) -> None:
        self.baton.acquire()
        _here.actor = self
        try:
            self._body()
        except Abandoned:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            self.schedule.hand_over(self)


#: Whether an actor may be preempted before this step of its.
Branches = Callable[[str, Step], bool]
#: Chooses among the options of a decision.
Policy = Callable[[Sequence[str]], str]


class Schedule:
    """One execution of some actors under given choices; beyond them ``policy`` decides (the default: go on)."""

    def __init__(
        self,
        bodies: Mapping[str, Callable[[], None]],
        choices: Sequence[str],
        branches: Branches,
        policy: Policy,
        *,
        with_expiries: bool = False,
    ) -> None:
        self.actors = {name: Actor(name, body, self) for name, body in bodies.items()}
        self.trace: list[tuple[str, Step]] = []
        self.decisions: list[Decision] = []
        #: Every choice with :func:`always`, made or not: what replays this schedule whatever was left out as alike.
        self.all_choices: list[str] = []
        self.violations: list[str] = []
        self.expired = 0
        self._choices = choices
        self._branches = branches
        self._policy = policy
        self._with_expiries = with_expiries
        self._over = threading.Lock()
        self._over.acquire()
        self._is_abandoned = False

    def run(self) -> None:
        """Run until every actor is done; what kept one from it stands in ``violations``."""
        for actor in tuple(self.actors.values()):  # the first may start others meanwhile
            actor.thread.start()
        self._go_on_with(None)
        if not self._over.acquire(timeout=_REAL_TIME_LIMIT):
            raise RuntimeError(f"an actor waits outside of the scheduler; the last steps: {self.trace[-5:]}")
        for actor in self.actors.values():
            actor.thread.join(_REAL_TIME_LIMIT)
            if actor.error is not None:
                raise RuntimeError(f"actor {actor.name} failed") from actor.error

    # -- called by the actor that runs -------------------------------------------------------------------------

    def point(self, me: Actor, step: Step) -> None:
        """Let the others go first, if that is what is chosen; then ``step`` is made."""
        if self._is_abandoned:
            raise Abandoned
        if len(self.trace) >= _STEP_LIMIT:
            self._abandon(f"no end after {_STEP_LIMIT} steps")
            raise Abandoned
        if me.has_begun:
            self._switch(me, may_branch=self._branches(me.name, step))
        me.has_begun = True  # to begin was the choice already
        self.trace.append((me.name, step))

    def wait(self, me: Actor, resource: str, timeout: float, *, once: bool) -> bool:
        """Stand still until somebody signals ``resource``; False: the time was over first."""
        if self._is_abandoned:
            raise Abandoned
        me.waits_for, me.can_expire, me.has_expired = resource, 0 <= timeout <= SHORT_WAIT, False
        me.waits_once = once
        self._switch(me, may_branch=self._branches(me.name, Step(WAIT)))
        return not me.has_expired

    def signal(self, resource: str) -> None:
        """Whoever waits for ``resource`` may try again."""
        for actor in self.actors.values():
            if actor.waits_for == resource:
                actor.waits_for = None
            if actor.was_refused_by == resource:
                actor.was_refused_by = None  # it need not wait: what it was refused may be there by now

    def start(self, body: Callable[[], None]) -> None:
        """Have one more actor, under a letter that no other one has."""
        name = next(letter for letter in _STARTED if letter not in self.actors)
        actor = self.actors[name] = Actor(name, body, self)
        actor.thread.start()

    def hand_over(self, me: Actor) -> None:
        """The last act of an actor."""
        if self._is_abandoned:
            self._end_one_more()
        else:
            self._go_on_with(me)

    # -- who goes on -------------------------------------------------------------------------------------------

    def _switch(self, me: Actor, *, may_branch: bool) -> None:
        if self._go_on_with(me, may_branch=may_branch) is not me:
            me.baton.acquire()
        if self._is_abandoned:
            raise Abandoned

    def _go_on_with(self, me: Actor | None, *, may_branch: bool = True) -> Actor | None:
        chosen = self._choose(me, may_branch=may_branch)
        if chosen is None:
            if me is not None and not me.is_done:
                return me  # it raises, and what is left of the others ends after it
            self._end_one_more()
            return None
        if chosen is not me:
            chosen.baton.release()
        return chosen

    def _choose(self, me: Actor | None, *, may_branch: bool) -> Actor | None:
        goes_on = me is not None and me.is_ready
        options = [me.name] if me is not None and goes_on else []
        options += [actor.name for actor in self.actors.values() if actor.is_ready and actor is not me]
        expiring = [actor for actor in self.actors.values() if self._may_expire(actor)]
        if me in expiring and me is not None and me.waits_once:
            options.insert(0, me.name.upper())
            expiring.remove(me)
        if not options:
            # Nobody can go on but by waiting: the shortest waits run out, as they would in real time.
            options = [actor.name.upper() for actor in expiring]
        else:
            options += [actor.name.upper() for actor in expiring if actor.waits_once or self._with_expiries]
        if not options:
            if not all(actor.is_done for actor in self.actors.values()):
                waiting = {actor.name: actor.waits_for for actor in self.actors.values() if not actor.is_done}
                self._abandon(f"nobody can go on: {waiting}")
            return None
        chosen = options[0]
        if len(options) > 1 and not may_branch:
            self.all_choices.append(chosen)
        elif len(options) > 1:
            at = len(self.decisions)
            chosen = self._choices[at] if at < len(self._choices) else self._policy(options)
            if chosen not in options:
                self._abandon(f"choice {at} is {chosen!r}, which is none of {options}: another program or store")
                return None
            once = frozenset(actor.name for actor in self.actors.values() if actor.waits_once)
            self.decisions.append(Decision(tuple(options), chosen, not goes_on, once))
            self.all_choices.append(chosen)
        actor = self.actors[chosen.lower()]
        if chosen != actor.name:
            actor.waits_for, actor.has_expired, actor.can_expire = None, True, False
            self.expired += 1
        return actor

    @staticmethod
    def _may_expire(actor: Actor) -> bool:
        return not actor.is_done and actor.waits_for is not None and actor.can_expire

    def _abandon(self, why: str) -> None:
        self.violations.append(why)
        self._is_abandoned = True

    def _end_one_more(self) -> None:
        # After a deadlock, too, one after the other: the clean-up is no part of the schedule, but it shares its state.
        for actor in self.actors.values():
            if not actor.is_done:
                if actor.baton.locked():
                    actor.baton.release()
                return
        if self._over.locked():
            self._over.release()


def actor_here() -> Actor | None:
    """The actor whose thread this is."""
    actor: Actor | None = getattr(_here, "actor", None)
    return None if actor is None or actor.is_done else actor


def yield_point(label: str, *touches: Touch) -> None:
    """Say what comes next, and let the scheduler decide whether it comes now."""
    actor = actor_here()
    if actor is not None:
        actor.schedule.point(actor, Step(label, touches))


def wait_for(resource: str, timeout: float, *, once: bool = False) -> bool:
    """Wait until ``resource`` is signalled; False if the time was over. A negative timeout is none.

    ``once``: whoever waits does not begin again when the time was over.
    """
    actor = actor_here()
    return actor is not None and actor.schedule.wait(actor, resource, timeout, once=once)


def signal(resource: str) -> None:
    """Tell those who wait for ``resource``."""
    actor = actor_here()
    if actor is not None:
        actor.schedule.signal(resource)


def reads(resource: str) -> Touch:
    return Touch(resource, False)


def writes(resource: str) -> Touch:
    return Touch(resource, True)


def start_names(tag: str) -> None:
    """Have this thread, which is no actor's, count its names from one, apart from those of other tags."""
    _here.tag, _here.made = tag, Counter()


def new_name(kind: str) -> tuple[str, int]:
    """Who makes a thing, and which of the kind: the same in every run in which its maker came here in the same way."""
    actor = actor_here()
    made: Counter[str] = _here.made if actor is None else actor.made
    made[kind] += 1
    return (_here.tag if actor is None else actor.name), made[kind]


def never(_: str, __: Step) -> bool:
    return False


def always(_: str, __: Step) -> bool:
    return True


def first(options: Sequence[str]) -> str:
    return options[0]
