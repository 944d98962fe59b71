"""The system checks: their ids, what they name, and what they say to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from taquba_workflow_sync import QueueConfig, StoreClosedError
from taquba_workflow_sync.contrib.django import store
from taquba_workflow_sync.contrib.django.discovery import flows
from taquba_workflow_sync.flow import Flow

BACKEND = "taquba_workflow_sync.contrib.django.tasks.TaqubaBackend"


def found(**settings: Any) -> dict[str, Any]:
    with override_settings(**settings):
        return {each.id: each for each in run_checks() if (each.id or "").startswith("taquba.")}


def both(**extra: Any) -> dict[str, Any]:
    return {"default": {"STORE": "/tmp/a", **extra}, "other": {"STORE": "/tmp/b"}}


def test_a_project_that_is_right_has_nothing_to_hear() -> None:
    assert found() == {}


@pytest.mark.parametrize(
    ("setting", "id_", "text"),
    [
        (None, "taquba.E001", "TAQUBA is not set"),
        ([1], "taquba.E001", "must be a dict of aliases, not list"),
        ({"default": "/x", "other": {"STORE": "/tmp/b"}}, "taquba.E002", "TAQUBA['default'] must be a dict, not str"),
        ({"default": {}, "other": {"STORE": "/tmp/b"}}, "taquba.E003", "TAQUBA['default'] has no STORE"),
        (both(DURABILITY="some"), "taquba.E004", "durability is 'some'"),
        (both(WAIT="long"), "taquba.E004", "wait"),
        (both(DEFAULT_CONFIG={"max_attemps": 3}), "taquba.E004", "unknown field 'max_attemps'"),
        (both(DEFAULT_CONFIG={"max_attempts": 0}), "taquba.E004", "max_attempts"),
        (both(IMMEDIATE="yes"), "taquba.E004", "IMMEDIATE must be True or False"),
        ({"default": {"STORE": "/tmp/a"}}, "taquba.E005", "Flow 'elsewhere' names the store 'other'"),
        ({"default": {"STORE": 7}, "other": {"STORE": "/tmp/b"}}, "taquba.E004", "path must be a str"),
        (both(DURABILTY="full"), "taquba.W001", "unknown key 'DURABILTY'"),
        ({"other": {"STORE": "/tmp/b"}}, "taquba.W002", "no alias 'default'"),
        (both(EXCLUSIVE=True), "taquba.W006", "cannot have the store open at once"),
        (both(STORE="taquba"), "taquba.W003", "another directory for each working directory"),
        (both(STORE="/tmp/../tmp/b"), "taquba.W005", "name one store"),
        (both(STORE=__file__), "taquba.E010", "is no directory"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_id_with_a_hint(setting: Any, id_: str, text: str) -> None:
    problems = found(TAQUBA=setting)
    assert text in problems[id_].msg
    assert problems[id_].hint


def test_an_unknown_key_is_a_warning_with_what_was_meant() -> None:
    problem = found(TAQUBA=both(DURABILTY="full"))["taquba.W001"]
    assert problem.level < 40
    assert "'DURABILITY'" in problem.hint


def test_tasks_name_their_store_and_their_options() -> None:
    tasks = {"default": {"BACKEND": BACKEND, "OPTIONS": {"store": "no", "imediate": True}}}
    assert "names the store 'no'" in found(TASKS=tasks)["taquba.E006"].msg
    assert "unknown option 'imediate'" in found(TASKS=tasks)["taquba.W004"].msg
    tasks = {"default": {"BACKEND": BACKEND, "OPTIONS": {"immediate": "yes"}}}
    assert "immediate must be True or False" in found(TASKS=tasks)["taquba.E007"].msg


def test_flows_that_cannot_run_or_meet_are_said() -> None:
    twice, empty = Flow[int, int]("slow"), Flow[int, int]("empty")
    flows().extend([twice, empty])
    try:
        problems = [each for each in run_checks() if (each.id or "").startswith("taquba.")]
    finally:
        del flows()[-2:]
    assert any(each.id == "taquba.E008" and "'empty'" in each.msg for each in problems)
    assert any(each.id == "taquba.E009" and "'slow'" in each.msg for each in problems)


def test_a_flow_that_is_called_like_a_queue_of_tasks_is_said_and_other_queues_of_tasks_are_not(tmp_path: Path) -> None:
    meets, alone = Flow[int, int]("tasks-mails"), Flow[int, int]("tasks", store="other")
    own = {alias: {"STORE": tmp_path / alias} for alias in ("default", "other")}
    for flow, store_of_tasks, expected in (
        (meets, "default", "called like a queue of the tasks in the store 'default'"),
        (meets, "other", None),
        (alone, "other", None),
    ):
        flows().append(flow)
        options = {"BACKEND": BACKEND, "QUEUES": ["mails"], "OPTIONS": {"store": store_of_tasks}}
        twice = {"default": options, "again": options}  # two backends of one queue are as good as one
        try:
            problems = found(TASKS=twice, TAQUBA=own)
        finally:
            flows().remove(flow)
        if expected is None:
            assert "taquba.E009" not in problems
        else:
            assert expected in problems["taquba.E009"].msg
    assert list(tmp_path.iterdir()) == []  # looking has opened no store


def test_the_options_of_queue_open_arrive(tmp_path: Path) -> None:
    config = {"MAX_ATTEMPTS": 7}
    given = {
        "STORE": tmp_path / "s",
        "DEFAULT_CONFIG": QueueConfig(max_attempts=5),
        "QUEUE_CONFIGS": {"q": config},
        "MAX_PAYLOAD_BYTES": 100,
    }
    with override_settings(TAQUBA={"default": given}):
        queue = store()
        assert queue.path == tmp_path / "s"
        assert queue.handle.config_of("q").max_attempts == 7
        assert queue.handle.config_of("another").max_attempts == 5
        assert queue.handle.max_payload_bytes == 100
        assert store() is queue
    with pytest.raises(StoreClosedError):
        queue.list_queues()


def test_a_store_of_wrong_settings_says_so_when_it_is_used() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no alias 'nowhere'; it has 'default', 'other'"):
        store("nowhere")
    with override_settings(TAQUBA={"default": {}}), pytest.raises(ImproperlyConfigured, match="has no STORE"):
        store()
    with override_settings(TAQUBA=None), pytest.raises(ImproperlyConfigured, match="TAQUBA is not set"):
        store()


def test_a_url_is_no_relative_directory_and_its_password_is_not_shown() -> None:
    url = "postgresql://u:{}@h/db"
    messages = found(TAQUBA={"default": {"STORE": url.format("s3cr3t")}, "other": {"STORE": url.format("other")}})
    assert messages.keys() == {"taquba.W005"}
    assert "name one store, postgresql://u@h/db?schema=taquba" in messages["taquba.W005"].msg
    for wrong in ("postgresql://u:s3cr3t/@h/db", "postgresql://u:s3cr3t@h/db?colour=1", "mysql://u:s3cr3t@h/db"):
        (message,) = found(TAQUBA={"default": {"STORE": wrong}, "other": {"STORE": "/tmp/b"}}).values()
        assert message.id == "taquba.E004"
        assert "s3cr3t" not in message.msg
    messages = found(TAQUBA=both(LIVENESS_DSN=url.format("s3cr3t")))
    assert "this one is a directory" in messages["taquba.E004"].msg
