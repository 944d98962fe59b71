"""What a URL of a store says: which database, which schema of it, and how the server is reached."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

SCHEMES: Final = ("postgresql", "postgres")
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}\Z")
DEFAULT_SCHEMA: Final = "taquba"


def is_url(address: str) -> bool:
    """Whether an address is one of this engine."""
    return address.partition("://")[0] in SCHEMES and "://" in address


@dataclass(frozen=True)
class Address:
    """A store: ``dsn`` is how its server is reached, with the password if there is one; ``shown`` is without it."""

    dsn: str
    schema: str
    shown: str

    def key(self, what: str) -> int:
        """Return the number of an advisory lock of this store, the same in every process."""
        digest = sha256(f"taquba\0{self.schema}\0{what}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def parsed(address: str) -> Address:
    """Return what a URL says.

    Raises:
        ValueError: it is none of a store; the message names what is wrong, never the password.
    """
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        raise ValueError(f"the address of a store is no URL: {_hidden(str(error), address)}") from None
    if url.scheme not in SCHEMES:
        raise ValueError(f"the address of a store on PostgreSQL begins with postgresql://, not with {url.scheme}://")
    if url.fragment:
        raise ValueError("the address of a store has no fragment; write a # of a password as %23")
    schema = DEFAULT_SCHEMA
    options: list[tuple[str, str]] = []
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name == "schema":
            schema = value
        else:
            options.append((name, value))
    if not _SCHEMA.match(schema):
        raise ValueError(f"schema is {schema!r:.80}; it must be 1 to 50 letters, digits and _, no digit first")
    dsn = urlunsplit(("postgresql", url.netloc, url.path, urlencode(options, quote_via=quote), ""))
    user = "" if url.username is None else f"{quote(unquote(url.username))}@"
    where = f"{user}{url.hostname or ''}{'' if port is None else f':{port}'}"
    kept = [(name, value) for name, value in options if name in ("host", "port", "dbname", "user")]
    shown_query = urlencode([*kept, ("schema", schema)], quote_via=quote, safe="/")
    return Address(dsn, schema, f"postgresql://{where}{url.path}?{shown_query}")


def _hidden(message: str, address: str) -> str:
    """Return a message that quotes nothing of an address: a password may be what could not be read."""
    return "its port is no number from 0 to 65535" if "ort" in message else "it cannot be read"
