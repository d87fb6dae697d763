"""A stack in a cluster, as a laptop sees it: ``konstruct`` run in one of its workers' Pods.

Texts go over standard input, so that neither a shell nor the API server's audit log sees them. A command
whose Pod ends is run in another one: the same message id is the same message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from konstruct_cli.cluster.access import connected
from konstruct_cli.cluster.exec import CannotStartError, Outcome, execute, follow
from konstruct_cli.cluster.pods import WorkerPod, ready_worker
from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import CliError, ExitCode, NoReplyError
from orchestrator.decisions import Decided, Decision, Parked
from orchestrator.evidence import Evidence
from orchestrator.purged import Purged
from shared.kube.client import KubeClient
from shared.kube.errors import ForbiddenError, NotFoundError, UnreachableError
from shared.models import KonstructMessage
from shared.reply import Reply

TRIES = 3
"""Pods that a command is tried in when the one that runs it ends."""

PAUSE_S = 1.0
"""Seconds before the next Pod is tried: time for the API server to learn that the last is not ready."""

PURGE_S = 600.0
"""Seconds that deleting may take; cut off, it has deleted some, and may be run again."""

START_S = 30.0
"""Seconds that finding a Pod and starting a command in it may take, beyond what the command itself may."""


Told = TypeVar("Told", bound=BaseModel)
"""What a command tells in JSON."""


class RemoteError(CliError):
    """The command failed in the Pod, which said why; it ends here as it ended there."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.err.strip().removeprefix("konstruct: ") or f"exit code {outcome.code}")
        self.code = ExitCode(outcome.code) if outcome.code in set(ExitCode) else ExitCode.FAILED


class RemoteStack:
    """A release in a cluster, used through its workers' Pods."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def ask(self, message: KonstructMessage, timeout_s: float) -> Reply:
        """Submit `message` in a worker's Pod and wait there for its reply.

        Raises:
            CliError: there is none; codes and messages are those of a local stack.
        """
        argv = [
            *("konstruct", "send", "--json", f"--timeout={timeout_s}"),
            *(f"--tenant={message.tenant_id}", f"--agent={message.agent}", f"--thread={message.thread_id}"),
            *(f"--message-id={message.message_id}", f"--sender={message.sender}", "-"),
        ]
        _, outcome = self.run(argv, message.text.encode(), timeout_s)
        return _read(outcome, Reply, ExitCode.NOT_ANSWERED)

    def explain(self, tenant: str, message_id: str, *, texts: bool) -> Evidence:
        """Read the evidence of a message in a worker's Pod.

        Raises:
            CliError: there is none; codes and messages are those of a local stack.
        """
        argv = ["konstruct", "explain", "--json", f"--tenant={tenant}", *(["--text"] if texts else [])]
        _, outcome = self.run([*argv, message_id])
        return _read(outcome, Evidence, ExitCode.FAILED)

    def parked(self, tenant: str) -> Parked:
        """List the parked messages of a tenant, in a worker's Pod.

        Raises:
            CliError: as of a local stack.
        """
        _, outcome = self.run(["konstruct", "parked", "--json", f"--tenant={tenant}", "list"])
        return _read(outcome, Parked, ExitCode.OK)

    def decide(self, tenant: str, message_id: str, decision: Decision) -> Decided:
        """Decide what becomes of a parked message, in a worker's Pod.

        Raises:
            CliError: as of a local stack.
        """
        argv = ["konstruct", "parked", "--json", f"--tenant={tenant}", decision.value, message_id]
        _, outcome = self.run(argv)
        return _read(outcome, Decided, ExitCode.OK)

    def purge(self, tenant: str | None, older_than: timedelta) -> Purged:
        """Delete messages that finished longer ago than `older_than`, in a worker's Pod.

        Raises:
            CliError: as of a local stack.
        """
        argv = ["konstruct", "purge", "--json", "--yes", f"--older-than={older_than.total_seconds():.0f}s"]
        _, outcome = self.run([*argv, *([] if tenant is None else [f"--tenant={tenant}"])], timeout_s=PURGE_S)
        return _read(outcome, Purged, ExitCode.OK)

    def close(self) -> None:
        """Do nothing: no connection is kept between messages, for a Pod may go at any time."""

    def run(
        self, argv: Sequence[str], stdin: bytes = b"", timeout_s: float = 0.0
    ) -> tuple[WorkerPod, Outcome]:
        """Run a command that takes at most `timeout_s` seconds in a worker's Pod, and tell in which.

        It must be one that may be run twice: it is, when a Pod ends in the middle.

        Raises:
            CliError: no Pod could run it.
        """
        return asyncio.run(self._run(argv, stdin, timeout_s + START_S))

    def follow(self, argv: Sequence[str], on_line: Callable[[str], None], every_s: float) -> None:
        """Run a command in a worker's Pod that writes a line each `every_s` seconds, and hand each on.

        When its Pod ends, it goes on in another. It returns when the command ends well.

        Raises:
            CliError: the command failed, or no Pod could run it.
        """
        asyncio.run(self._follow(argv, on_line, every_s + START_S))

    async def _follow(self, argv: Sequence[str], on_line: Callable[[str], None], silence_s: float) -> None:
        failures = 0

        def seen(line: str) -> None:
            nonlocal failures
            failures = 0
            on_line(line)

        start = partial(follow, argv=argv, on_line=seen, silence_s=silence_s)
        async with connected(self._cluster) as client:
            while True:
                try:
                    _, outcome = await self._in_a_pod(client, start)
                except (UnreachableError, NotFoundError):
                    failures += 1
                    if failures == TRIES:
                        raise
                    await asyncio.sleep(PAUSE_S)
                    continue
                if outcome.code != ExitCode.OK:
                    raise RemoteError(outcome)
                return

    async def _run(self, argv: Sequence[str], stdin: bytes, within_s: float) -> tuple[WorkerPod, Outcome]:
        try:
            async with asyncio.timeout(within_s), connected(self._cluster) as client:
                for _ in range(TRIES - 1):
                    try:
                        return await self._once(client, argv, stdin)
                    except (UnreachableError, NotFoundError):
                        await asyncio.sleep(PAUSE_S)
                return await self._once(client, argv, stdin)
        except TimeoutError:
            raise NoReplyError(
                f"nothing came back from a worker's pod in namespace {self._cluster.namespace} within "
                f"{within_s:g} s; `kubectl get events` there may tell why"
            ) from None

    async def _once(self, client: KubeClient, argv: Sequence[str], stdin: bytes) -> tuple[WorkerPod, Outcome]:
        return await self._in_a_pod(client, partial(execute, argv=argv, stdin=stdin))

    async def _in_a_pod(
        self, client: KubeClient, start: Callable[[KubeClient, str, str, str], Awaitable[Outcome]]
    ) -> tuple[WorkerPod, Outcome]:
        pod = await ready_worker(client, self._cluster)
        namespace = self._cluster.namespace
        try:
            return pod, await start(client, namespace, pod.name, pod.container)
        except ForbiddenError as error:
            raise CliError(
                f"you may not run commands in the pods of namespace {namespace}. Ask for the rights get and "
                f"create on pods/exec there ({error})"
            ) from None
        except CannotStartError as error:
            raise CliError(f"`konstruct` cannot be run in a worker's pod. {error}") from None


def _read(outcome: Outcome, kind: type[Told], unhappy: ExitCode) -> Told:
    """Read the JSON of a command that ended well, or with the code by which it tells its unhappy result.

    Raises:
        RemoteError: it told no result.
    """
    if outcome.code not in (ExitCode.OK, unhappy):
        raise RemoteError(outcome)
    try:
        return kind.model_validate_json(outcome.out)
    except ValidationError:
        raise RemoteError(outcome) from None
