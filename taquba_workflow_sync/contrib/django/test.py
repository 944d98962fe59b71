"""For the tests of a project: a store of its own for each test, and runs that are done before the call returns."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.test import override_settings

from taquba_workflow_sync.contrib.django.conf import DEFAULT_ALIAS, IMMEDIATE, STORE, aliases
from taquba_workflow_sync.contrib.django.immediate import waiting_for_time
from taquba_workflow_sync.contrib.django.served import served_by
from taquba_workflow_sync.contrib.django.stores import store, stores
from taquba_workflow_sync.contrib.django.untyped import Untyped
from taquba_workflow_sync.workflow.client import WorkflowClient

if TYPE_CHECKING:
    _TestCase = Untyped
else:
    from django.test import TestCase as _TestCase


class OwnStore:
    """Gives each test of a class of Django's tests empty stores, in immediate mode; put it before the other base.

    A run that is submitted, by a flow or by ``submit_on_commit`` once the callbacks are called, has gone as far as it
    can when the call returns: to its end, or to where it waits for a moment, a signal or a group. Its steps run in the
    test's thread and so inside its transaction. Backoffs are skipped. Tasks of ``TaqubaBackend`` run likewise. What is
    submitted in ``setUpTestData`` goes into a store that the tests do not see.
    """

    @classmethod
    def setUpClass(cls) -> None:
        """Keep the stores of the project out of what the class sets up."""
        own = own_stores()
        own.__enter__()
        cls.addClassCleanup(own.__exit__, None, None, None)  # type: ignore[attr-defined]  # of the class beside it
        super().setUpClass()  # type: ignore[misc]  # of the class beside it

    def run(self, result: Any = None) -> Any:
        """Run the test with stores of its own."""
        with own_stores():
            return super().run(result)  # type: ignore[misc]  # of the class beside it

    def wake_runs(self, alias: str = DEFAULT_ALIAS) -> int:
        """Have every run that waits for a moment go on now, as if the time had passed; return how many did."""
        woken = 0
        for served in served_by(alias):
            client = WorkflowClient(store(alias), queue_name=served.service().queue_name)
            woken += sum(client.wake(run.run_id) for run in waiting_for_time(client))
        return woken


class TaqubaTestCase(OwnStore, _TestCase):
    """Django's ``TestCase`` with a store of its own for each test, and immediate mode on; see :class:`OwnStore`.

    ``with self.captureOnCommitCallbacks(execute=True):`` runs what ``submit_on_commit`` has put off.
    """


@contextmanager
def own_stores() -> Iterator[None]:
    """Have every alias of ``TAQUBA`` be an empty store in immediate mode, inside the block."""
    directory = Path(tempfile.mkdtemp(prefix="taquba-test-"))
    given = getattr(settings, "TAQUBA", {})
    changed = {
        # Relaxed: nobody cuts the power of a test.
        alias: {
            # Of a store on a server, but the tests' is a directory.
            **{key: value for key, value in given.get(alias, {}).items() if key not in ("MIGRATE", "LIVENESS_DSN")},
            STORE: directory / str(number),
            IMMEDIATE: True,
            "DURABILITY": "relaxed",
            "EXCLUSIVE": False,
        }
        for number, alias in enumerate(aliases() or [DEFAULT_ALIAS])
    }
    try:
        with override_settings(TAQUBA=changed):
            yield
            stores().close()
    finally:
        stores().close()
        shutil.rmtree(directory, ignore_errors=True)
