"""The store against its model with each handle in a process of its own, which is killed now and then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from taquba_workflow_sync.storage.port.store import Store
from tests.faults.checker import check
from tests.faults.remote import Host, opened
from tests.storage.engines import EMBEDDED
from tests.storage.test_model import StoreMachine


class ProcessMachine(StoreMachine):
    """Two processes; the hosts outlive an example, a killed one is replaced."""

    engine = EMBEDDED
    hosts: list[Host]

    def _open(self) -> Store:
        # The first opens of an example come in order; a reopened handle keeps its process.
        number = self.opens % 2 if self.opens < 2 else self.reopened
        self.opens += 1
        return opened(self.hosts[number], self.directory / "store", self.clock)

    opens = 0
    reopened = 0

    @rule(handle=st.integers(0, 1))
    def reopen(self, handle: int) -> None:
        self.reopened = handle
        super().reopen(handle)

    @rule(handle=st.integers(0, 1))
    def kill(self, handle: int) -> None:
        """What had returned was committed, so the model knows of no difference."""
        self.hosts[handle].kill()
        self.hosts[handle] = Host()
        self.reopened = handle
        self.handles[handle] = self._open()
        self.dead |= {self.owners.pop(handle)} if handle in self.owners else set()

    def teardown(self) -> None:
        if hasattr(self, "handles"):
            for store in self.handles:
                store.close()
            check(self.directory / "store", [], is_idle=False).assert_clean()
        super().teardown()


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    hosts = [Host(), Host()]
    yield hosts
    for host in hosts:
        host.kill()


def test_two_processes_do_what_the_model_says_though_they_are_killed(hosts: list[Host]) -> None:
    machine = type("Machine", (ProcessMachine,), {"hosts": hosts})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
