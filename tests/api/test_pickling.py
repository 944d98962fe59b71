"""Open stores cannot be pickled; the error says what to do."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from taquba_workflow_sync import Queue, Succeed, WorkflowClient, WorkflowRuntime


@pytest.mark.parametrize("what", ["queue", "client", "runtime", "run handle"])
@pytest.mark.parametrize("how", [pickle.dumps, copy.deepcopy], ids=["pickle", "deepcopy"])
def test_what_belongs_to_an_open_store_says_why_it_cannot_be_pickled(tmp_path: Path, what: str, how: Any) -> None:
    with Queue.open(tmp_path / "store", durability="relaxed") as queue:
        client = WorkflowClient(queue)
        things = {
            "queue": queue,
            "client": client,
            "runtime": WorkflowRuntime(queue, lambda step: Succeed()),
            "run handle": client.submit(run_id="named"),
        }
        with pytest.raises(TypeError, match=r"cannot be pickled; (pickle its path|pickle its run_id|open the store)"):
            how(things[what])
