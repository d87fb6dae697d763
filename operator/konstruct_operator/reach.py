"""Which of the listed namespaces cannot be served for now: one that is closed holds up no other.

A Role goes with its namespace, and comes back with the next `helm upgrade`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from shared.kube.errors import KubeError, UnauthorizedError, UnreachableError

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""Seconds between two tries of a namespace that could not be read."""


class Reach:
    """Enters namespaces, and tries those again in which a right is missing."""

    def __init__(self, enter: Callable[[str], Awaitable[None]], regained: Callable[[str], None]) -> None:
        """`enter` claims and reads a namespace; `regained` gets one that can be served again."""
        self._enter = enter
        self._regained = regained
        self.missing: dict[str, str] = {}
        """Namespaces that cannot be served, and why."""

    async def begin(self, namespaces: Sequence[str]) -> None:
        """Enter each namespace.

        Raises:
            KubeError: none of them can be read, or the API server does not answer.
        """
        for namespace in namespaces:
            try:
                await self._enter(namespace)
            except (UnreachableError, UnauthorizedError):
                raise
            except KubeError as error:
                self.lose(namespace, error)
                if len(self.missing) == len(namespaces):
                    raise
            else:
                self.missing.pop(namespace, None)

    async def retry(self) -> None:
        """Try again what is missing."""
        for namespace in list(self.missing):
            try:
                await self._enter(namespace)
            except KubeError as error:
                self.lose(namespace, error)
            else:
                del self.missing[namespace]
                log.info("namespace %s is served again", namespace)
                self._regained(namespace)

    def lose(self, namespace: str, error: KubeError) -> None:
        """Note that a namespace cannot be served."""
        if namespace not in self.missing:
            log.warning(
                "namespace %s is not served, the others are: %s; is the operator's Role there? "
                "helm upgrade makes it again",
                namespace,
                error,
            )
        self.missing[namespace] = str(error)
