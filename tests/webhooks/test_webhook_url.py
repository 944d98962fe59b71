"""A URL that is accepted leads to one place, whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import example, given, settings
from hypothesis import strategies as st
from urllib3.util import parse_url

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks import WebhookRequest, WebhookWorker, request
from taquba_workflow_sync.webhooks.prepared import prepared_alike
from taquba_workflow_sync.webhooks.url import origin

from .conftest import Claim, Job, post
from .receiver import Receiver, answers

REFUSED = {
    "a backslash before the at sign": "http://127.0.0.1:80\\@allowed.example/",
    "a backslash before the host": "http:\\\\127.0.0.1/",
    "a backslash behind the host": "http://127.0.0.1\\.allowed.example/",
    "a backslash in the path": "http://allowed.example/\\@127.0.0.1/",
    "two at signs": "http://allowed.example@127.0.0.1@other.example/",
    "a bracket in the user": "http://[::1]@allowed.example/",
    "a user that is empty": "http://@allowed.example/",
    "a user of half a percent code": "http://a%4@allowed.example/",
    "a tab in the host": "http://127.0.0.1\t.allowed.example/",
    "a line end in the host": "http://127.0.0.1\n.allowed.example/",
    "a line end in the scheme": "ht\ntp://allowed.example/",
    "a null before the scheme": "\x00http://allowed.example/",
    "a percent code in the host": "http://%6c%6fcalhost/",
    "a percent code of a slash in the host": "http://127.0.0.1%2f.allowed.example/",
    "a fullwidth dot": "http://127\uff0e0\uff0e0\uff0e1/",
    "an ideographic dot": "http://localhost\u3002allowed.example/",
    "a letter that is folded into ASCII": "http://\u24dbocalhost/",
    "a digit that is folded into ASCII": "http://127.0.0.\u2460/",
    "a soft hyphen": "http://local\u00adhost/",
    "a name beyond ASCII": "http://b\u00fccher.example/",
    "a sign that is folded into a slash": "http://127.0.0.1\uff0f.allowed.example/",
    "a scheme that is folded into ASCII": "http\u017f://allowed.example/",
    "a zone": "http://[fe80::1%25eth0]/",
    "a zone with a bare percent": "http://[fe80::1%eth0]/",
    "an address of the future": "http://[v1.fe80]/",
    "an IPv6 address with two gaps": "http://[1::2::3]/",
    "an IPv4 address in brackets": "http://[127.0.0.1]/",
    "a name in brackets": "http://[localhost]/",
    "something behind the bracket": "http://[::1]127.0.0.1/",
    "an IPv6 address without brackets": "http://::1/",
    "two ports": "http://127.0.0.1:80:443/",
    "a port with a sign": "http://127.0.0.1:+80/",
    "a port in other digits": "http://127.0.0.1:\u0668\u0660/",
    "a port with an underscore": "http://127.0.0.1:8_0/",
    "a port with a zero before it": "http://127.0.0.1:080/",
    "port 0, which requests drops": "http://127.0.0.1:0/",
    "a port too high": "http://127.0.0.1:65536/",
    "a dot before the host": "http://.allowed.example/",
    "two dots": "http://allowed..example/",
    "two dots at the end": "http://allowed.example../",
    "a comma in the host": "http://127.0.0.1,allowed.example/",
    "a semicolon in the host": "http://127.0.0.1;allowed.example/",
    "one slash": "http:/127.0.0.1/",
    "three slashes": "http:///127.0.0.1/",
    "no scheme": "//127.0.0.1/",
}

#: URL -> where it leads.
ACCEPTED = {
    "http://allowed.example#@127.0.0.1/": ("allowed.example", None),
    "http://allowed.example?@127.0.0.1/": ("allowed.example", None),
    "http://allowed.example/@127.0.0.1/": ("allowed.example", None),
    "HTTPS://Allowed.EXAMPLE:8443": ("allowed.example", 8443),
    "http://user:pa%40ss@allowed.example/": ("allowed.example", None),
    "http://allowed.example:/": ("allowed.example", None),
    "http://allowed.example./": ("allowed.example.", None),
    "http://under_score-and-hyphen/": ("under_score-and-hyphen", None),
    "http://xn--bcher-kva.example/b\u00fccher": ("xn--bcher-kva.example", None),
    "http://127.1:8080/": ("127.1", 8080),  # these forms are read alike; where they lead is what allow is asked about
    "http://0x7F000001/": ("0x7f000001", None),
    "http://2130706433/": ("2130706433", None),
    "http://[::1]:65535/": ("::1", 65535),
    "http://[::FFFF:127.0.0.1]/": ("::ffff:127.0.0.1", None),
    "http://h//double//slashes": ("h", None),
}


def by_urllib(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port


def by_urllib3(url: str) -> tuple[str | None, int | None]:
    parts = parse_url(url)
    return (parts.host or "").strip("[]").lower(), parts.port


def by_requests(url: str) -> tuple[str | None, int | None]:
    return by_urllib(str(requests.Request("POST", url).prepare().url))


def test_a_backslash_does_not_get_past_an_allow_list(receiver: Receiver) -> None:
    """urllib.parse says allowed.example, urllib3 connected to 127.0.0.1, and the error named allowed.example."""
    receiver.on("/", answers(200))
    url = f"http://127.0.0.1:{receiver.port}\\@allowed.example/"
    assert by_urllib(url)[0] == "allowed.example" and by_urllib3(url)[0] == "127.0.0.1"
    with pytest.raises(ValueError, match="backslash"):
        WebhookRequest(url)
    with pytest.raises(PermanentFailure, match="backslash"):
        WebhookWorker().process(Job(headers={"webhook.url": url}), Claim())
    assert receiver.connections == 0


@pytest.mark.parametrize("with_", REFUSED)
def test_a_url_that_could_be_read_in_two_ways_is_refused(with_: str) -> None:
    with pytest.raises(ValueError) as refused:
        WebhookRequest(REFUSED[with_])
    assert "allowed" not in str(refused.value) and "127" not in str(refused.value), "it may hold a password"


@pytest.mark.parametrize("url", ACCEPTED)
def test_a_url_that_can_be_read_in_one_way_is_accepted(url: str) -> None:
    assert WebhookRequest(url).url == url
    assert ACCEPTED[url] == by_urllib(url) == by_urllib3(url) == by_requests(url)
    prepared_alike(url)


_hosts = ["127.0.0.1", "allowed.example", "a", "[::1]", "[fe80::1%25x]", "[::ffff:1.2.3.4]", "%6c", "\u24db", "\uff0e"]
_others = [*":@/?#\\.%&;+-_~![]\t\n \u3002\u00e9\u017f0", "http:", "//", ":80", "u:p@", "xn--", "%40"]
_pieces = st.sampled_from(_hosts + _others)
_urls = st.builds(
    lambda scheme, pieces: scheme + "".join(pieces),
    st.sampled_from(["http://", "https://", "HTTP://", "http:", "http:/", "http:///", "http:\\\\", ""]),
    st.lists(_pieces, max_size=8) | st.lists(_pieces | st.characters(), max_size=8),
)


@settings(deadline=None, max_examples=1000)  # a busy machine is no failure
@given(_urls)
@example("http://h:00080/")
@example("http://h:65535?@[::1]:0#\\")
def test_any_url_that_is_accepted_is_read_alike_by_all_parsers(url: str) -> None:
    try:
        WebhookRequest(url)
    except ValueError:
        return
    assert by_urllib(url) == by_urllib3(url) == by_requests(url)
    host, port = by_urllib(url)
    assert origin(url).endswith(f"://{f'[{host}]' if ':' in str(host) else host}{'' if port is None else f':{port}'}")
    prepared_alike(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:hunter2@example.org:8443/s3cret?t0ken", "https://example.org:8443"),
        ("HTTP://Example.ORG:#frag", "http://example.org"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
        ("http://allowed.example?@127.0.0.1/", "http://allowed.example"),
    ],
)
def test_errors_name_what_is_connected_to(url: str, shown: str) -> None:
    assert origin(url) == shown
    assert repr(WebhookRequest(url)).startswith(f"WebhookRequest(url='{shown}/...'")


@pytest.mark.parametrize(
    "url",
    [
        lambda port: f"http://127.0.0.1:{port}\\@allowed.example/",
        lambda port: "http://127.0.0.1:0/",
        lambda port: f"http://%31%32%37.0.0.1:{port}/",
    ],
    ids=["backslash", "port 0", "percent code"],
)
def test_should_the_grammar_miss_one_the_delivery_compares_once_more(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, url: Callable[[int], str]
) -> None:
    receiver.on("/%5C@allowed.example/", answers(200))
    receiver.on("/", answers(200))
    monkeypatch.setattr(request, "check_url", lambda url: None)
    with pytest.raises(PermanentFailure, match=r"leads to http://127\.0\.0\.1(:\d+)? or elsewhere"):
        post(WebhookWorker(), url(receiver.port))
    assert receiver.connections == 0
