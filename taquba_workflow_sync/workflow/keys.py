"""Keys made of what they stand for: the same at every attempt, so that the other side knows a repeat."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from taquba_workflow_sync.queue import validation


def content_key(*parts: Any) -> str:
    """Return 64 hex characters made of what is passed: the SHA-256 of its canonical JSON (sorted keys, no spaces).

    The same content gives the same key, in every process and version. Tuples count as lists.

    Raises:
        TypeError: a part is none of None, bool, int, float, str, list, tuple and mapping with str keys.
        ValueError: a float is no number, text has lone surrogates, or the parts are too deep.
    """
    try:
        plain = [_plain(part) for part in parts]
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()
    except RecursionError:
        raise ValueError("the parts of a content key are too deep, or contain themselves") from None
    except UnicodeEncodeError:
        raise ValueError("the parts of a content key have lone surrogates, which UTF-8 cannot hold") from None


def idempotency_key(job_id: str, step: int, name: str) -> str:
    """Return the key of one thing that one step of one run does."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    try:
        return content_key("taquba idempotency key", job_id, step, name)
    except ValueError:
        raise ValueError(f"name {validation.shown(name)} has lone surrogates, which UTF-8 cannot hold") from None


def _plain(part: object) -> object:
    """Return what JSON says without doubt; a bool is no int, and a mapping's keys are text already."""
    if part is None or isinstance(part, (bool, str)):
        return part
    if isinstance(part, int):
        return int(part)
    if isinstance(part, float):
        return float(part)
    if isinstance(part, (list, tuple)):
        return [_plain(each) for each in part]
    if isinstance(part, Mapping):
        if not all(isinstance(key, str) for key in part):
            raise TypeError("the mappings of a content key must have str keys")
        return {str(key): _plain(value) for key, value in part.items()}
    raise TypeError(f"a content key is made of JSON's types, not of {type(part).__name__}; encode it first")
