"""A URL as requests will send it, compared once more with the URL that was checked.

The grammar of :mod:`.url` was written against the parsers of its day; this is against those that are installed. Imports
requests, and is therefore itself imported with the first delivery.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import requests
from urllib3.util import parse_url

from taquba_workflow_sync.errors import PermanentFailure
from taquba_workflow_sync.webhooks.url import origin

#: Scheme, user and password, host, port.
_Place = tuple[str | None, str, str | None, int | None]


def prepared_alike(url: str) -> requests.PreparedRequest:
    """Return a request to ``url`` as requests prepares it, which leads where both parsers say that ``url`` leads.

    Raises:
        PermanentFailure: it leads elsewhere, or they disagree.
        ValueError: requests does not take the URL.
    """
    prepared = requests.Request("POST", url).prepare()
    sent = str(prepared.url)
    if not _by_urllib(url) == _by_urllib3(url) == _by_urllib(sent) == _by_urllib3(sent):
        raise PermanentFailure(f"the webhook was not sent: its URL leads to {origin(sent)} or elsewhere, by the parser")
    return prepared


def _by_urllib(url: str) -> _Place:
    parts = urlsplit(url)
    return parts.scheme, unquote(parts.netloc.rpartition("@")[0]), parts.hostname, parts.port


def _by_urllib3(url: str) -> _Place:
    parts = parse_url(url)
    host = parts.host and parts.host.strip("[]").lower()
    return parts.scheme, unquote(parts.auth or ""), host, parts.port
