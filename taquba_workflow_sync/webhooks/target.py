"""What a delivery is about to connect to, and the user's say in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from taquba_workflow_sync.webhooks.errors import RetryLater
from taquba_workflow_sync.webhooks.url import bracketed


class WebhookTarget(NamedTuple):
    """What a delivery is about to connect to: ``allow`` of a ``WebhookWorker`` is asked about it.

    ``address`` is the IP address, as text for ``ipaddress.ip_address``: the one that is connected to, after the name
    was resolved (an IPv4 address mapped into IPv6 is given as the IPv4 address that it is). ``host`` is the name or
    address in the URL, in lower case and without brackets; ``scheme`` is http or https.
    """

    address: str
    port: int
    host: str
    scheme: str


#: True: connect to it. False: don't.
Allow = Callable[[WebhookTarget], bool]


def ask(allow: Allow, target: WebhookTarget) -> bool:
    """Return what ``allow`` says about ``target``.

    Raises:
        RetryLater: it raised, or said neither True nor False.
    """
    where = f"{bracketed(target.host)}:{target.port}"
    try:
        verdict = allow(target)
    except Exception as error:
        # Whatever the user's code raises: it has given no verdict, and what it lacked may be there the next time.
        raise RetryLater(f"allow raised {type(error).__name__} when asked about {where}") from error
    if not isinstance(verdict, bool):
        # Neither guessed: a forgotten return is None, and a coroutine, which nobody awaits, counts as true.
        raise RetryLater(f"allow must return True or False, not {type(verdict).__name__}; asked about {where}")
    return verdict


def plain_address(address: str) -> str:
    """Return an IPv4 address mapped into IPv6 as the IPv4 address that it leads to, any other address as it is.

    A check that knows 127.0.0.1 may well not know ``::ffff:127.0.0.1``; some versions of ``ipaddress`` don't.
    """
    if ":" not in address:
        return address
    from ipaddress import IPv6Address  # here, where one delivery in many needs it

    mapped = IPv6Address(address).ipv4_mapped
    return address if mapped is None else str(mapped)
