"""Which URLs a webhook may have: those that no two parsers read differently.

Whoever checks a URL against a list of hosts checks what *one* parser makes of it, and the HTTP library connects to what
*another* makes of it: of ``http://127.0.0.1\\@allowed.example/``, urllib.parse says allowed.example, urllib3 127.0.0.1.
So the authority is held to less than RFC 3986 allows, by a grammar that leaves nothing to read in two ways. The tests
hold it against both parsers, and each delivery compares them once more.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

# The backslash: browsers, and parsers that follow them, read it as a slash. urlsplit drops tabs and line ends.
_BAD_IN_URL = re.compile(r"[\x00-\x20\x7f-\x9f\s\\]")
_SCHEME = re.compile(r"https?://", re.IGNORECASE | re.ASCII)
_AUTHORITY_END = re.compile(r"[/?#]")
_USER_INFO = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})+")  # RFC 3986, section 3.2.1
# Names as they are in DNS and host files, IPv4 addresses among them. Neither percent-encoded (urllib3 decodes that) nor
# beyond ASCII (which turns into another name on its way to DNS). IPv6 without a zone, whose % is read in three ways.
_HOST_AND_PORT = re.compile(
    r"(?:(?P<name>[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])(?::(?P<port>[0-9]*))?"
)
# Without leading zeros, and not 0, which requests takes for no port at all.
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_HIGHEST_PORT = 65535


def check_url(url: str) -> None:
    """Refuse what is no http or https URL with a host, and every URL that could be read in two ways.

    Raises:
        TypeError: not a str.
        ValueError: anything else. The message does not show the URL, which may hold a password.
    """
    if not isinstance(url, str):
        raise TypeError(f"url must be a str, not {type(url).__name__}")
    if _BAD_IN_URL.search(url) or not _is_encodable(url):
        raise ValueError("url must not contain white space, backslashes or control characters; percent-encode them")
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise ValueError("url must start with http:// or https://")
    user, at, host_and_port = _AUTHORITY_END.split(url[scheme.end() :], maxsplit=1)[0].rpartition("@")
    if at and not _USER_INFO.fullmatch(user):
        raise ValueError("url must percent-encode what is special in its user and password")
    _check_host_and_port(host_and_port)


def origin(url: str) -> str:
    """Return ``scheme://host:port``: what may be shown of a URL whose user, path and query may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{bracketed(parts.hostname or '')}" + ("" if parts.port is None else f":{parts.port}")


def bracketed(host: str) -> str:
    """Return a host as it stands before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def _is_encodable(url: str) -> bool:
    try:
        url.encode()
    except UnicodeEncodeError:  # lone surrogates
        return False
    return True


def _check_host_and_port(host_and_port: str) -> None:
    if not host_and_port:
        raise ValueError("url must name a host: https://host/path")
    parts = _HOST_AND_PORT.fullmatch(host_and_port)
    if parts is None:
        raise ValueError(
            "url must name its host in ASCII letters, digits, dots, hyphens and underscores (international names as "
            "xn--...), or as [IPv6 address] without a zone"
        )
    port = parts["port"]
    if port and not (_PORT.fullmatch(port) and int(port) <= _HIGHEST_PORT):
        raise ValueError(f"url must have a port from 1 to {_HIGHEST_PORT}, or none")
    if parts["ipv6"] is not None:
        _check_ipv6(parts["ipv6"])


def _check_ipv6(address: str) -> None:
    from ipaddress import IPv6Address  # here, where one URL in many needs it

    try:
        IPv6Address(address)
    except ValueError:
        raise ValueError("url has no IPv6 address in its brackets") from None
