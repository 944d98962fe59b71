"""What a URL of a store says: which database, which schema of it, and how the server is reached."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

SCHEMES: Final = ("postgresql", "postgres")
_SCHEMA: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}\Z")
DEFAULT_SCHEMA: Final = "taquba"
_HOW: Final = "write /, @, :, # and % of a user or a password as %2F, %40, %3A, %23 and %25"


def is_url(address: str) -> bool:
    """Whether an address is one of this engine."""
    return address.partition("://")[0] in SCHEMES and "://" in address


@dataclass(frozen=True)
class Address:
    """A store: ``dsn`` is how its server is reached, with the password if there is one; ``shown`` is without it.

    ``direct_dsn``: how it is reached past the pooler that ``dsn`` leads through; None: there is none.
    """

    dsn: str = field(repr=False)
    schema: str
    shown: str
    direct_dsn: str | None = field(default=None, repr=False)

    def key(self, what: str) -> int:
        """Return the number of an advisory lock of this store, the same in every process."""
        digest = sha256(f"taquba\0{self.schema}\0{what}".encode()).digest()
        return int.from_bytes(digest[:8], "big", signed=True)


def parsed(address: str, direct: str | None = None) -> Address:
    """Return what a URL says; ``direct``: the URL of the same server without the pooler.

    Raises:
        ValueError: one is none of a store; the message names what is wrong, never the password.
    """
    if direct is None:
        return _parsed(address)
    found = _parsed(address)
    try:
        past = _parsed(direct)
    except ValueError as error:
        raise ValueError(f"liveness_dsn: {error}") from None
    if past.schema not in (found.schema, DEFAULT_SCHEMA):
        raise ValueError(
            f"liveness_dsn names the schema {past.schema!r}, the store is in {found.schema!r}; leave it out"
        )
    return replace(found, direct_dsn=past.dsn)


def _parsed(address: str) -> Address:
    url = port = None
    wrong = ""
    try:
        url = urlsplit(address)
        port = url.port
    except ValueError as error:
        wrong = _hidden(str(error))
    if wrong or url is None:  # raised here, where what it comes of, which quotes the address, is not its context
        raise ValueError(f"the address of a store is no URL: {wrong}")
    if url.scheme not in SCHEMES:
        raise ValueError(f"the address of a store on PostgreSQL begins with postgresql://, not with {url.scheme}://")
    if url.fragment:
        raise ValueError("the address of a store has no fragment; write a # of a password as %23")
    schema = DEFAULT_SCHEMA
    options: list[tuple[str, str]] = []
    known = _known_options()
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name == "schema":
            schema = value
        elif name not in known:
            # Behind a password in which a & stands as it is, the name is a part of that.
            which = "an unknown option" if "password" in url.query else f"the unknown option {name!r:.80}"
            raise ValueError(f"the address of a store has {which}; libpq's parameter key words and schema are known")
        else:
            options.append((name, value))
    if not _SCHEMA.match(schema):
        raise ValueError(f"schema is {schema!r:.80}; it must be 1 to 50 letters, digits and _, no digit first")
    dsn = urlunsplit(("postgresql", url.netloc, url.path, urlencode(options, quote_via=quote), ""))
    if not _is_read_by_libpq(dsn):
        raise ValueError(f"the address of a store is no URL that libpq can read; {_HOW}")
    user = "" if url.username is None else f"{quote(unquote(url.username))}@"
    host = url.hostname or ""
    host = f"[{host}]" if ":" in host else host
    where = f"{user}{host}{'' if port is None else f':{port}'}"
    kept = [(name, value) for name, value in options if name in ("host", "port", "dbname", "user")]
    shown_query = urlencode([*kept, ("schema", schema)], quote_via=quote, safe="/")
    return Address(dsn, schema, f"postgresql://{where}{url.path}?{shown_query}")


@cache
def _known_options() -> frozenset[str]:
    return frozenset(option.keyword.decode() for option in Conninfo.get_defaults())


def _is_read_by_libpq(dsn: str) -> bool:
    try:
        conninfo_to_dict(dsn)
    except psycopg.Error:  # whose message quotes what it could not read, which may be the password
        return False
    return True


def _hidden(message: str) -> str:
    """Return a message that quotes nothing of an address: a password may be what could not be read."""
    if "ort" not in message:
        return f"it cannot be read; {_HOW}"
    return f"its port is no number from 0 to 65535 ({_HOW}; several servers are ?host=ONE,OTHER&port=5432,5432)"
