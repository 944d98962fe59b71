"""What ``Queue.open`` takes, checked before anything is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taquba_workflow_sync.clock import Clock
from taquba_workflow_sync.failpoints import Failpoint
from taquba_workflow_sync.queue import engines, validation
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.handle import QueueHandle
from taquba_workflow_sync.storage.port.store import Durability, OpenOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The arguments of ``Queue.open``, checked."""

    address: str = field(repr=False)  # there may be a password in it
    default_config: QueueConfig
    queue_configs: Mapping[str, QueueConfig]
    max_payload_bytes: int
    options: OpenOptions

    def open(self) -> QueueHandle:
        """Open the store."""
        return QueueHandle(
            engines.open_store(self.address, self.options),
            default_config=self.default_config,
            queue_configs=self.queue_configs,
            max_payload_bytes=self.max_payload_bytes,
            address=engines.shown(self.address),
            failpoint=self.options.failpoint,
        )


def checked(
    path: object,
    *,
    default_config: object,
    queue_configs: object,
    durability: object,
    exclusive: object,
    max_payload_bytes: object,
    wait: object,
    clock: object,
    migrate: object = True,
    liveness_dsn: object = None,
    failpoint: Failpoint | None = None,
) -> Opening:
    """Return the arguments of an open.

    Raises:
        TypeError, ValueError, InvalidNameError: an argument is wrong.
    """
    config = QueueConfig() if default_config is None else default_config
    if not isinstance(config, QueueConfig):
        raise TypeError(f"default_config must be a QueueConfig, not {type(config).__name__}")
    if not isinstance(exclusive, bool):
        raise TypeError(f"exclusive must be a bool, not {type(exclusive).__name__}")
    if clock is not None and not isinstance(clock, Clock):
        raise TypeError(f"clock must have a method now() -> datetime; {type(clock).__name__} has none")
    if not isinstance(migrate, bool):
        raise TypeError(f"migrate must be a bool, not {type(migrate).__name__}")
    # Before the path: its check is the last that can refuse.
    options = OpenOptions(
        durability=_durability(durability),
        is_exclusive=exclusive,
        clock=clock,
        failpoint=failpoint,
        wait_s=validation.optional_seconds(wait, "wait"),
        migrates=migrate,
        direct_address=_liveness(liveness_dsn, path),
    )
    return Opening(
        default_config=config,
        queue_configs=_configs(queue_configs),
        max_payload_bytes=validation.integer(max_payload_bytes, "max_payload_bytes", least=1),
        options=options,
        address=address_of(path),
    )


def _configs(value: object) -> dict[str, QueueConfig]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"queue_configs must be a Mapping, not {type(value).__name__}")
    configs: dict[str, QueueConfig] = {}
    given: Mapping[Any, Any] = value
    for name, each in given.items():
        checked_name = validation.queue_name(name)
        if not isinstance(each, QueueConfig):
            raise TypeError(f"queue_configs[{name!r}] must be a QueueConfig, not {type(each).__name__}")
        configs[checked_name] = each
    return configs


def _durability(value: object) -> Durability:
    if not isinstance(value, str):
        raise TypeError(f"durability must be a str, not {type(value).__name__}")
    try:
        return Durability(value)
    except ValueError:
        raise ValueError(f"durability is {validation.shown(value)}; it must be 'full' or 'relaxed'") from None


def server_of(value: object) -> str:
    """Return the URL of a server's database that ``address`` gives; "" for None.

    Raises:
        TypeError, ValueError: it is none; nothing of a URL is quoted.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"address must be a str or None, not {type(value).__name__}")
    if "://" not in value or "\0" in value or not value.isprintable():
        raise ValueError("address is no URL; it must begin with postgresql://")
    engines.is_url(value)
    engines.shown(value)
    return value


def _liveness(value: object, path: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"liveness_dsn must be a str or None, not {type(value).__name__}")
    # None of the messages quotes it: there may be a password in it.
    if "\0" in value or "://" not in value:
        raise ValueError("liveness_dsn is no URL; it must begin with postgresql://")
    if not engines.is_url(address_of(path)):
        raise ValueError("liveness_dsn is for a store on PostgreSQL behind a pooler; this one is a directory")
    try:
        engines.is_url(value)
        engines.shown(value)
    except ValueError as error:
        raise ValueError(f"liveness_dsn: {error}") from None
    return value


def is_url(path: str) -> bool:
    """Whether the text of a path is the URL of a store, and names no directory.

    Raises:
        ValueError: it is a URL that belongs to no engine.
    """
    return engines.is_url(path)


def shown(address: str) -> str:
    """Return an address as it may be shown: absolute, or a URL without its password.

    Raises:
        ValueError: it is a URL of no store.
    """
    return engines.shown(address)


def address_of(path: object) -> str:
    """Return the text of a path.

    Raises:
        TypeError, ValueError: it is none, or no directory can be called so.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or PathLike, not {type(path).__name__}")
    text: object = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError("path must be text, not bytes")
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise ValueError(f"path is {validation.shown(text)}; the filesystem cannot hold such a name") from None
    if "\0" not in text and engines.is_url(text):
        engines.shown(text)  # which refuses what is none of its engine
        return text
    if not text or "\0" in text:
        raise ValueError(f"path is {validation.shown(text)}; it must name a directory")
    return text
