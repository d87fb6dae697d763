"""The signature of a payload: HMAC-SHA-256 over its canonical JSON (docs/signatures.md). Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

HEADER = "konstruct_signature"
"""Header of a delivery that carries the signature."""

VERSION = "v1"
"""What a signature begins with: this way of making one."""

_PURPOSE = b"konstruct-message-v1\n"
"""What is signed before the payload, so that a signature means this and nothing else."""


def canonical(payload: Any) -> bytes:
    """Write `payload`, as read from JSON, in the one form that is signed.

    Keys sorted, no white space, UTF-8, nothing escaped that need not be: for a message, whose values are
    all strings, it is RFC 8785.

    Raises:
        TypeError, ValueError, RecursionError: it is nothing that plain JSON gives.
    """
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
    return text.encode()


def sign(payload: Any, key: str) -> str:
    """Return the signature of `payload`. Raises as :func:`canonical`."""
    mac = hmac.new(key.encode(), _PURPOSE + canonical(payload), hashlib.sha256)
    return f"{VERSION}={mac.hexdigest()}"


def is_signed(payload: Any, signature: object, keys: Sequence[str]) -> bool:
    """Whether `signature` is that of `payload` by one of `keys`; the time does not tell by which."""
    if not isinstance(signature, str):
        return False
    try:
        expected = [sign(payload, key).encode() for key in keys]
        given = signature.encode()
    except (TypeError, ValueError, RecursionError):
        return False
    matches = [hmac.compare_digest(given, one) for one in expected]
    return any(matches)
