"""What an application's configuration says of its store: ``TAQUBA_STORE``, and an option of ``Queue.open`` each."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from flask import Flask

from taquba_workflow_sync.queue import opening
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.queue import Queue

PREFIX: Final = "TAQUBA_"
STORE: Final = "TAQUBA_STORE"

_DEFAULTS: Final = {
    name: parameter.default
    for name, parameter in inspect.signature(Queue.open).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}
OPTIONS: Final = tuple(f"{PREFIX}{name.upper()}" for name in _DEFAULTS)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Which store an application has (None: it does not say), and how it is opened."""

    path: str | None = field(repr=False)  # there may be a password in it, and in the options
    options: dict[str, Any] = field(repr=False)

    def open(self) -> Queue:
        """Open the store.

        Raises:
            RuntimeError: the configuration names none.
            StorageError, StoreInUseError and the rest: as for ``Queue.open``.
        """
        if self.path is None:
            raise RuntimeError(
                f'the app knows no store: set app.config["{STORE}"] to the path of a directory, which is made if it is'
                " not there, or to a URL that begins postgresql://"
            )
        return Queue.open(self.path, **self.options)


def store_config(app: Flask) -> StoreConfig:
    """Return what an application's configuration says, checked; nothing is opened or made.

    A path that is not absolute lies in the app's instance folder, wherever its processes were started; a URL is one.

    Raises:
        ValueError: it has a name that begins with ``TAQUBA_`` and is no option.
        TypeError, ValueError, InvalidNameError: a value is wrong.
    """
    given = {name: value for name, value in app.config.items() if name.startswith(PREFIX)}
    unknown = sorted(given.keys() - {STORE, *OPTIONS})
    if unknown:
        raise ValueError(
            f"app.config has {', '.join(unknown)}, which is no option of a store; there are {STORE},"
            f" {', '.join(OPTIONS)}"
        )
    path = given.pop(STORE, None)
    where = None if path is None else _said(STORE, opening.address_of, path)
    if where is not None and not opening.is_url(where):
        where = os.path.join(app.instance_path, where)
    options: dict[str, Any] = {}
    for name, value in given.items():
        option = name.removeprefix(PREFIX).lower()
        checked = _said(name, _READERS.get(option, _as_it_is), value)
        _said(name, partial(_check, path or "unused"), {**_DEFAULTS, option: checked})
        options[option] = checked
    return StoreConfig(where, options)


def _check(path: Any, options: Mapping[str, Any]) -> None:
    opening.checked(path, **options)


def _as_it_is(value: Any) -> Any:
    return value


def _said(name: str, reader: Callable[[Any], Any], value: Any) -> Any:
    """Return what a reader makes of a value; what it complains of bears the name that stands in the configuration."""
    try:
        return reader(value)
    except (TypeError, ValueError) as error:
        error.args = (f'app.config["{name}"]: {error}',)
        raise


def _queue_config(value: Any) -> Any:
    """Return a configuration of a queue; a mapping, as it comes from a file or the environment, becomes one."""
    return QueueConfig(**value) if isinstance(value, Mapping) else value


def _queue_configs(value: Any) -> Any:
    return {name: _queue_config(each) for name, each in value.items()} if isinstance(value, Mapping) else value


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "default_config": _queue_config,
    "queue_configs": _queue_configs,
}
