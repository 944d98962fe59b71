"""Signatures as in Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks), scheme ``v1``."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

_PREFIX = "whsec_"


def signing_keys(secret: str | bytes | Sequence[str | bytes]) -> tuple[bytes, ...]:
    """Return the key bytes of a secret, or of several while one replaces another.

    A ``str`` is base64, with or without the prefix ``whsec_``, padded or not, as the reference libraries read it.
    ``bytes`` are the raw key.

    Raises:
        TypeError: a secret is neither str nor bytes.
        ValueError: a secret is empty or no base64, or there is none. The message does not show it.
    """
    secrets = (secret,) if isinstance(secret, str | bytes) else secret
    if not isinstance(secrets, Sequence):
        raise TypeError(f"secret must be a str, bytes or a sequence of them, not {type(secret).__name__}")
    keys = tuple(_key(each) for each in secrets)
    if not keys:
        raise ValueError("secret must hold at least one secret; pass None to send unsigned")
    return keys


def signature_headers(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers that let a receiver check ``body``; ``timestamp`` is in seconds since the epoch.

    One signature per key, so that a receiver that knows the old or the new secret accepts it during a rotation.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _key(secret: str | bytes) -> bytes:
    if isinstance(secret, bytes):
        key = secret
    elif isinstance(secret, str):
        key = _decoded(secret.removeprefix(_PREFIX))
    else:
        raise TypeError(f"a secret must be a str or bytes, not {type(secret).__name__}")
    if not key:
        raise ValueError("a secret must not be empty")
    return key


def _decoded(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        # from None: the traceback of the decoder would carry the secret.
        raise ValueError("a secret given as str must be base64 (whsec_...); pass bytes for a raw key") from None
