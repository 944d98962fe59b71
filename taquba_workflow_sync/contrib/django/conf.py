"""The setting ``TAQUBA``, taken apart: what each alias opens, and what is wrong with it."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from django.conf import settings

from taquba_workflow_sync.queue import opening
from taquba_workflow_sync.queue.config import QueueConfig
from taquba_workflow_sync.queue.queue import Queue

DEFAULT_ALIAS: Final = "default"
STORE: Final = "STORE"
IMMEDIATE: Final = "IMMEDIATE"
EXAMPLE: Final = 'TAQUBA = {"default": {"STORE": BASE_DIR / "taquba"}}'

#: What an alias may say, and what Queue.open calls it.
OPTIONS: Final[Mapping[str, str]] = {
    name.upper(): name
    for name, parameter in inspect.signature(Queue.open).parameters.items()
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY
}
KEYS: Final = (STORE, *OPTIONS, IMMEDIATE)
_CONFIG_FIELDS: Final = tuple(each.name for each in fields(QueueConfig))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about the setting that is wrong (an id that begins with E) or strange (W), and what to do about it."""

    id: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """What one alias says. ``problems`` empty of errors: it can be opened."""

    alias: str
    path: str | os.PathLike[str] | None = field(default=None, repr=False)  # there may be a password in it
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    is_immediate: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        """What keeps it from being opened."""
        return [each for each in self.problems if each.id.startswith("E")]


def aliases() -> list[str]:
    """Return the aliases that the setting has; none if it is no dict."""
    given = getattr(settings, "TAQUBA", None)
    return [alias for alias in given if isinstance(alias, str)] if isinstance(given, Mapping) else []


def problems_of_setting() -> list[Problem]:
    """Return what is wrong with the setting as a whole."""
    given = getattr(settings, "TAQUBA", None)
    if given is None:
        return [Problem("E001", "TAQUBA is not set.", f"Name a directory for the store in the settings: {EXAMPLE}")]
    if not isinstance(given, Mapping) or not all(isinstance(alias, str) for alias in given):
        text = f"TAQUBA must be a dict of aliases, not {type(given).__name__}."
        return [Problem("E001", text, f"Write it as {EXAMPLE}")]
    if DEFAULT_ALIAS not in given:
        return [
            Problem(
                "W002",
                "TAQUBA has no alias 'default', which flows use that name no other.",
                "Add one, or make each flow with Flow(..., store=ALIAS).",
            )
        ]
    return []


def settings_of(alias: str) -> StoreSettings:
    """Return what an alias says, with all that is wrong about it."""
    given = getattr(settings, "TAQUBA", {})[alias]
    if not isinstance(given, Mapping):
        text = f"TAQUBA[{alias!r}] must be a dict, not {type(given).__name__}."
        return StoreSettings(alias, problems=(Problem("E002", text, f"Write it as {EXAMPLE}"),))
    problems = [*_unknown(alias, given)]
    path = given.get(STORE)
    if path is None or path == "":
        hint = f"It is the store's directory, which is made when it is first used, or a postgresql:// URL: {EXAMPLE}"
        return StoreSettings(alias, problems=(*problems, Problem("E003", f"TAQUBA[{alias!r}] has no STORE.", hint)))
    options: dict[str, Any] = {}
    try:
        for key, name in OPTIONS.items():
            if key in given:
                options[name] = _converted(key, given[key])
        is_immediate = given.get(IMMEDIATE, False)
        if not isinstance(is_immediate, bool):
            raise TypeError(f"IMMEDIATE must be True or False, not {type(is_immediate).__name__}")
        _check(path, options)
    except (TypeError, ValueError) as error:
        hint = "The values are those of Queue.open, whose names are written in capitals here."
        return StoreSettings(alias, problems=(*problems, Problem("E004", f"TAQUBA[{alias!r}]: {error}.", hint)))
    if options.get("exclusive"):
        text = f"TAQUBA[{alias!r}] is EXCLUSIVE: the web server and a worker cannot have the store open at once."
        problems.append(Problem("W006", text, "Leave EXCLUSIVE out, unless one process does everything."))
    if not opening.is_url(os.fspath(path)) and not os.path.isabs(os.fspath(path)):
        text = f"TAQUBA[{alias!r}]['STORE'] is {os.fspath(path)!r}, another directory for each working directory."
        hint = 'Write an absolute path, such as BASE_DIR / "taquba": the web server and the worker must share it.'
        problems.append(Problem("W003", text, hint))
    return StoreSettings(alias, path, options, is_immediate, tuple(problems))


def _unknown(alias: str, given: Mapping[Any, Any]) -> Iterator[Problem]:
    for key in given:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key).upper(), KEYS, 1, 0.6)
            hint = f"Did you mean {near[0]!r}?" if near else f"It may have {', '.join(KEYS)}."
            yield Problem("W001", f"TAQUBA[{alias!r}] has the unknown key {key!r}, which is ignored.", hint)


def _converted(key: str, value: Any) -> Any:
    """Return an option as Queue.open takes it: configurations may be written as dicts of their fields."""
    if key == "DEFAULT_CONFIG":
        return _config(key, value)
    if key == "QUEUE_CONFIGS" and isinstance(value, Mapping):
        return {name: _config(f"{key}[{name!r}]", each) for name, each in value.items()}
    return value


def _config(where: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    given = {str(name).lower(): each for name, each in value.items()}
    unknown = sorted(given.keys() - set(_CONFIG_FIELDS))
    if unknown:
        raise ValueError(f"{where} has the unknown field {unknown[0]!r}; it may have {', '.join(_CONFIG_FIELDS)}")
    return QueueConfig(**given)


def _check(path: Any, options: Mapping[str, Any]) -> None:
    """Check what is given as Queue.open does, without opening anything."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(Queue.open).parameters.items()
        if name in OPTIONS.values()
    }
    opening.checked(path, **{**defaults, **options})
