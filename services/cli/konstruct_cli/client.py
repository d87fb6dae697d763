"""Talking to a running stack as a sender: which one, submitting, waiting for the reply, explaining it.

What only one of the commands needs is imported when it is used.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from konstruct_cli.errors import CliError, NoReplyError, NotRunningError, UsageError
from konstruct_cli.stack.state import DEFAULT_STATE_DIR, StackInfo, StateDir
from shared.config import Settings, load_settings
from shared.db import make_engine, make_system_engine
from shared.secret_files import FILE_SUFFIX
from shared.tls import certificate_fault

if TYPE_CHECKING:
    from orchestrator.decisions import Decided, Decision, Parked
    from orchestrator.evidence import Evidence
    from orchestrator.purged import Purged
    from shared.models import KonstructMessage
    from shared.reply import Reply

POLL_S = 0.05
"""Shortest pause between two looks for a reply, in seconds."""

POLL_MOST_S = 0.5
"""Longest pause between two looks, in seconds; it grows with the wait, of which it adds a tenth at most."""

_SENDER_CONNECTIONS = "1"
"""Database connections of a command, which does one thing at a time."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A stack that messages can be sent to."""

    source: str
    """Where its addresses come from, in words."""

    settings: Settings
    """How to reach it."""

    engine: Engine
    """Service engine."""

    info: StackInfo | None
    """The local stack, if it is one."""

    end_tracing: Callable[[], None] = lambda: None
    """Sends the spans that are left."""

    def ask(
        self,
        message: KonstructMessage,
        timeout_s: float,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Submit `message` and wait for its reply; `check` is called now and then and may raise.

        Raises:
            UsageError: another message has this id.
            CliError: too many messages of the tenant wait.
            NotRunningError: PostgreSQL or Redis cannot be reached.
            NoReplyError: there is no reply after `timeout_s` seconds.
        """
        from orchestrator.errors import BacklogFullError, MessageConflictError, SubmitError
        from orchestrator.messages import find_reply
        from orchestrator.sending import submit

        began = time.monotonic()
        try:
            with self._database():
                submit(message, on=self.engine, settings=self.settings, at_once=False)
                while True:
                    reply = find_reply(message.tenant_id, message.message_id, on=self.engine)
                    if reply is not None:
                        return reply
                    waited = time.monotonic() - began
                    if waited > timeout_s:
                        break
                    check()
                    time.sleep(min(max(waited / 10, POLL_S), POLL_MOST_S))
        except MessageConflictError as error:
            raise UsageError(str(error)) from None
        except BacklogFullError as error:
            raise CliError(str(error)) from None
        except SubmitError as error:
            raise NotRunningError(f"{error} ({self.source})") from None
        raise NoReplyError(
            f"no reply within {timeout_s:g} s. Message {message.message_id} of thread {message.thread_id} is "
            "recorded: send it again with the same text, --thread and --message-id to wait for its reply; "
            "`konstruct status` shows whether a worker is up"
        )

    def explain(self, tenant: str, message_id: str, *, texts: bool) -> Evidence:
        """Read the evidence of a message, with what was said in it only if `texts`.

        Raises:
            UsageError: the tenant has no such message; nothing tells whether another has.
            NotRunningError: PostgreSQL cannot be reached.
        """
        from orchestrator.recall import recall

        with self._database():
            found = recall(tenant, message_id, texts=texts, on=self.engine)
        if found is None:
            raise UsageError(
                f"tenant {tenant} has no message {message_id}; `konstruct send` and `konstruct chat --json` "
                "tell the ids of their messages"
            )
        return found

    def parked(self, tenant: str) -> Parked:
        """List the parked messages of a tenant.

        Raises:
            NotRunningError: PostgreSQL cannot be reached.
        """
        from orchestrator.decisions import Parked
        from orchestrator.parked import list_parked

        with self._database():
            return Parked(messages=list_parked(tenant, on=self.engine))

    def decide(self, tenant: str, message_id: str, decision: Decision) -> Decided:
        """Decide what becomes of a parked message, and tell it; the same decision again changes nothing.

        Raises:
            UsageError: the tenant has no such parked message, or something else is decided about it.
            NotRunningError: PostgreSQL cannot be reached.
        """
        from orchestrator.parked import decide

        with self._database():
            decided = decide(tenant, message_id, decision, on=self.engine)
        if decided is None:
            raise UsageError(
                f"tenant {tenant} has no parked message {message_id}; `konstruct parked list` shows its own"
            )
        if decided.decision is not decision:
            done = "dropped" if decided.retried_as is None else f"retried as {decided.retried_as}"
            raise UsageError(
                f"message {message_id} was {done} at {decided.decided_at:%Y-%m-%d %H:%M:%S}Z, which stays; "
                "its text can be sent again as a new message"
            )
        return decided

    def purge(self, tenant: str | None, older_than: timedelta) -> Purged:
        """Delete messages that finished longer ago than `older_than`, of one tenant or of all.

        Raises:
            ConfigurationError: the environment does not say how to log in as the system role.
            NotRunningError: PostgreSQL cannot be reached.
        """
        from orchestrator.retention import count_left, purge

        system = make_system_engine(self.settings)
        try:
            with self._database():
                purged = purge(system, tenant_id=tenant, older_than=older_than)
                if tenant is None:
                    return purged
                unfinished, finished = count_left(tenant, on=self.engine)
                return purged.model_copy(update={"unfinished": unfinished, "finished": finished})
        finally:
            system.dispose()

    @contextmanager
    def _database(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise NotRunningError(
                f"PostgreSQL of {self.source} does not answer "
                f"({certificate_fault(error) or type(error).__name__}); "
                "`konstruct status` shows what is up"
            ) from None

    def close(self) -> None:
        """Close the database's connections, and send what is left of traces."""
        self.engine.dispose()
        self.end_tracing()


def connect(state_dir: Path | None, environ: MutableMapping[str, str] | None = None) -> Connection:
    """Find the stack to talk to.

    `state_dir` names a local stack. Without it, ``KONSTRUCT_DATABASE_URL`` in the environment (or the
    variable that names its file) means the stack that the environment describes; otherwise it is the one in
    ``.konstruct``. The local stack's settings are put into `environ`, from which Celery's application reads
    its own.

    Raises:
        NotRunningError: no stack runs there.
        ConfigurationError: the environment describes none that could.
    """
    environ = os.environ if environ is None else environ
    info = None
    source = "the environment (KONSTRUCT_DATABASE_URL)"
    named = environ.get("KONSTRUCT_DATABASE_URL") or environ.get("KONSTRUCT_DATABASE_URL" + FILE_SUFFIX)
    if state_dir is not None or not named:
        state = StateDir(state_dir or DEFAULT_STATE_DIR)
        info = state.read()
        if info is None:
            raise NotRunningError(
                f"no stack runs on {state.path}: start one with `konstruct up` in another terminal, name its "
                "folder with --state-dir, or set KONSTRUCT_DATABASE_URL and KONSTRUCT_REDIS_URL"
            )
        for name, value in info.environment().items():
            environ.pop(name + FILE_SUFFIX, None)
            environ[name] = value
        source = f"the local stack on {state.path}"
    environ["KONSTRUCT_WORKER_CONCURRENCY"] = _SENDER_CONNECTIONS
    settings = load_settings(environ)
    return Connection(source, settings, make_engine(settings), info)


def traced(connection: Connection) -> Connection:
    """Have what is sent over `connection` begin traces, if the settings say so.

    Raises:
        ConfigurationError: the environment asks for an exporter that there is none of.
    """
    if not connection.settings.tracing:
        return connection
    from importlib.metadata import version

    from shared.tracing import start_tracing

    end = start_tracing(connection.settings, "konstruct-cli", version("konstruct-cli"))
    return replace(connection, end_tracing=end)
