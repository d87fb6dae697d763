"""Which deliveries are signed, by which keys, and which are taken.

Whoever can write to Redis can queue a payload. With a key, what workers take is what somebody queued who
has it: everything that is put into the queue is signed, and a worker looks at nothing of a delivery before
its signature (ADR 0013).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.config import Settings
from shared.signature import HEADER, is_signed, sign


@dataclass(frozen=True, slots=True)
class Signing:
    """What a process signs with, and takes."""

    keys: tuple[str, ...] = field(repr=False)
    """Keys that are taken, the one that signs first; none: nothing is signed, and everything taken."""

    unsigned: bool
    """Whether what has no signature at all is taken too."""

    @classmethod
    def of(cls, settings: Settings) -> Signing:
        """Read it from the settings."""
        keys = (settings.payload_key, settings.payload_second_key)
        return cls(
            tuple(key.get_secret_value() for key in keys if key is not None), settings.payload_unsigned
        )

    def headers(self, payload: Any) -> dict[str, str]:
        """Return the headers with which `payload` is queued."""
        return {HEADER: sign(payload, self.keys[0])} if self.keys else {}

    def fault(self, payload: Any, headers: Mapping[str, Any]) -> str | None:
        """Say why a delivery is not to be looked at; None if it is."""
        given = headers.get(HEADER)
        if not self.keys or (given is None and self.unsigned):
            return None
        if given is None:
            return "it has no signature"
        return None if is_signed(payload, given, self.keys) else "its signature is none by a key of ours"

    def onward(self, payload: Any, headers: Mapping[str, Any]) -> dict[str, str]:
        """Return the headers of a delivery that was taken and is queued again.

        Signed anew: it may wait for longer than its key is taken. What came without a signature stays so.
        """
        return self.headers(payload) if HEADER in headers else {}
