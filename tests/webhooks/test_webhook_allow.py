"""``allow`` has the last word about every address, and is asked about the very one that is connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from taquba_workflow_sync import WebhookTarget
from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks import RetryLater, WebhookWorker

from .conftest import Asked, post
from .receiver import Receiver, answers, answers_in_turn, resets

Resolver = Callable[[str, list[list[tuple[str, int]]]], list[str]]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """Let lookups of a name find one list of addresses after the other; return the list of the names looked up."""
    real = socket.getaddrinfo

    def install(name: str, turns: list[list[tuple[str, int]]]) -> list[str]:
        lookups: list[str] = []

        def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
            if host is None or str(host).rstrip(".") != name:
                return real(host, *rest, **options)
            lookups.append(host)
            found = turns[min(len(lookups), len(turns)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return lookups

    return install


def nowhere() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def test_an_address_that_is_not_allowed_gets_no_connection(receiver: Receiver) -> None:
    url = receiver.on("/s3cret", answers(200)).replace("//", "//user:hunter2@") + "?t0ken"
    with pytest.raises(PermanentFailure) as failed:
        post(WebhookWorker(allow=lambda target: False), url)
    assert str(failed.value) == f"the address of 127.0.0.1:{receiver.port} is not allowed (127.0.0.1)"
    assert receiver.connections == 0


def test_allow_is_asked_about_the_address_the_port_the_host_and_the_scheme(
    receiver: Receiver, resolve: Resolver
) -> None:
    receiver.on("/", answers(200))
    resolve("some.example", [[("127.0.0.1", receiver.port)]])
    asked = Asked()
    post(WebhookWorker(allow=asked), f"HTTP://Some.EXAMPLE:{receiver.port}/")
    assert asked == [WebhookTarget(address="127.0.0.1", port=receiver.port, host="some.example", scheme="http")]
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]"]
)
def test_an_address_in_disguise_is_asked_about_without_it(receiver: Receiver, host: str) -> None:
    receiver.on("/", answers(200))
    asked = Asked()
    post(WebhookWorker(allow=asked), f"http://{host}:{receiver.port}/")
    assert asked.addresses == ["127.0.0.1"]
    with pytest.raises(PermanentFailure, match="not allowed"):
        post(WebhookWorker(allow=Asked("127.0.0.1")), f"http://{host}:{receiver.port}/")
    assert receiver.connections == 1


def test_a_name_that_resolves_differently_a_moment_later_leads_where_was_asked_about(
    receiver: Receiver, resolve: Resolver
) -> None:
    receiver.on("/", answers(200))
    lookups = resolve("rebinding.example", [[("127.0.0.1", receiver.port)], [("127.0.0.2", nowhere())]])
    asked = Asked("127.0.0.2")
    post(WebhookWorker(allow=asked), f"http://rebinding.example:{receiver.port}/")
    assert (lookups, asked.addresses) == (["rebinding.example"], ["127.0.0.1"])
    assert len(receiver.requests) == 1


def test_a_dot_at_the_end_of_a_name_is_not_lost_before_the_lookup(receiver: Receiver, resolve: Resolver) -> None:
    """Without it, the resolver tries the search domains of this machine, and finds another name's address."""
    receiver.on("/", answers(200))
    lookups = resolve("dotted.example", [[("127.0.0.1", receiver.port)]])
    asked = Asked()
    post(WebhookWorker(allow=asked), f"http://dotted.example.:{receiver.port}/")
    assert lookups == ["dotted.example."] and [target.host for target in asked] == ["dotted.example."]


def test_each_address_is_asked_about_once_and_the_allowed_one_is_taken(receiver: Receiver, resolve: Resolver) -> None:
    receiver.on("/", answers(200))
    found = [("127.0.0.3", receiver.port), ("127.0.0.2", nowhere()), ("127.0.0.1", receiver.port), ("127.0.0.9", 9)]
    resolve("several.example", [found])
    asked = Asked("127.0.0.3")
    post(WebhookWorker(allow=asked), "http://several.example/")
    assert asked.addresses == ["127.0.0.3", "127.0.0.2", "127.0.0.1"], "in order, and not beyond what was needed"


def test_all_addresses_refused_is_permanent_and_names_a_few(resolve: Resolver) -> None:
    found = [(f"127.0.0.{number}", 9) for number in range(1, 6)]
    resolve("several.example", [found])
    with pytest.raises(PermanentFailure) as failed:
        post(WebhookWorker(allow=lambda target: False), "http://several.example:9/")
    assert str(failed.value) == (
        "the address of several.example:9 is not allowed (127.0.0.1, 127.0.0.2, 127.0.0.3, ...)"
    )


def test_an_allowed_address_that_does_not_answer_is_retried(resolve: Resolver) -> None:
    resolve("several.example", [[("127.0.0.1", nowhere()), ("127.0.0.2", 9)]])
    with pytest.raises(RetryLater, match="refused"):
        post(WebhookWorker(allow=Asked("127.0.0.2")), "http://several.example/")


def test_an_allow_that_raises_is_transient_and_named_by_its_type(receiver: Receiver) -> None:
    def allow(target: WebhookTarget) -> bool:
        raise LookupError("the database is away")

    with pytest.raises(RetryLater) as failed:
        post(WebhookWorker(allow=allow), receiver.on("/s3cret", answers(200)))
    assert str(failed.value) == f"allow raised LookupError when asked about 127.0.0.1:{receiver.port}"
    assert isinstance(failed.value.__cause__, LookupError) and receiver.connections == 0


def test_an_allow_that_raises_what_the_transport_raises_is_still_named(receiver: Receiver) -> None:
    def allow(target: WebhookTarget) -> bool:
        raise TimeoutError("of its own")

    with pytest.raises(RetryLater, match="allow raised TimeoutError"):
        post(WebhookWorker(allow=allow), receiver.on("/", answers(200)))
    assert receiver.connections == 0


async def never_awaited(target: WebhookTarget) -> bool:
    return False


@pytest.mark.filterwarnings("ignore:coroutine 'never_awaited' was never awaited")
@pytest.mark.parametrize("allow", [lambda target: None, lambda target: 1, lambda target: "yes", never_awaited])
def test_what_is_neither_true_nor_false_allows_nothing(receiver: Receiver, allow: Any) -> None:
    with pytest.raises(RetryLater, match="allow must return True or False, not"):
        post(WebhookWorker(allow=allow), receiver.on("/", answers(200)))
    assert receiver.connections == 0


@pytest.mark.parametrize("allow", [True, "example.org", ["example.org"], asyncio])
def test_what_cannot_be_called_is_a_type_error(allow: Any) -> None:
    with pytest.raises(TypeError, match="allow must be callable"):
        WebhookWorker(allow=allow)


def test_a_kept_connection_is_asked_about_again(receiver: Receiver) -> None:
    url, asked = receiver.on("/", answers(200)), Asked()
    worker = WebhookWorker(allow=asked)
    for _ in range(3):
        post(worker, url)
    assert asked == [WebhookTarget("127.0.0.1", receiver.port, "127.0.0.1", "http")] * 3
    assert receiver.connections == 1

    asked.refused.add("127.0.0.1")
    with pytest.raises(PermanentFailure, match="not allowed"):
        post(worker, url)
    assert (len(receiver.requests), receiver.connections) == (3, 1)


def test_a_kept_connection_that_is_refused_leaves_the_other_addresses(receiver: Receiver, resolve: Resolver) -> None:
    receiver.on("/", answers(200))
    here, there = ("127.0.0.1", receiver.port), ("127.0.0.2", nowhere())
    resolve("moved.example", [[here], [here, there]])
    asked = Asked()
    worker = WebhookWorker(allow=asked)
    post(worker, "http://moved.example/")
    asked.refused.add("127.0.0.1")
    with pytest.raises(RetryLater, match="refused"):
        post(worker, "http://moved.example/")
    assert asked.addresses == ["127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"], "the new, the kept, the found ones"
    assert len(receiver.requests) == 1


def test_a_connection_that_others_of_the_session_opened_is_asked_about(
    receiver: Receiver, session: requests.Session
) -> None:
    url = receiver.on("/", answers(200))
    post(WebhookWorker(session=session), url)
    assert session.post(url, data=b"x").status_code == 200
    with pytest.raises(PermanentFailure, match="not allowed"):
        post(WebhookWorker(session=session, allow=lambda target: False), url)
    assert (len(receiver.requests), receiver.connections) == (2, 1)


def test_others_of_the_session_are_not_asked_about(receiver: Receiver, session: requests.Session) -> None:
    url, asked = receiver.on("/", answers(200)), Asked()
    post(WebhookWorker(session=session, allow=asked), url)
    assert session.post(url, data=b"x").status_code == 200
    post(WebhookWorker(session=session), url)
    assert len(asked) == 1 and receiver.connections == 1


def test_a_redirect_is_not_followed_and_its_target_not_asked_about(receiver: Receiver) -> None:
    asked = Asked()
    with pytest.raises(PermanentFailure, match="HTTP 307"):
        post(WebhookWorker(allow=asked), receiver.on("/", answers(307, Location="http://127.0.0.2:9/")))
    assert asked.addresses == ["127.0.0.1"] and len(receiver.requests) == 1


def test_each_retry_of_the_adapter_is_asked_about(receiver: Receiver, session: requests.Session) -> None:
    session.mount("http://", HTTPAdapter(max_retries=Retry(2, allowed_methods=None, backoff_factor=0)))
    asked = Asked()
    post(WebhookWorker(session=session, allow=asked), receiver.on("/", answers_in_turn(resets, resets, answers(200))))
    assert len(asked) == 3 == len(receiver.requests)
