"""The Agents of a cluster as the source of agents: followers, the Lease and the gate, in one thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from orchestrator.agents.catalog import AgentCatalog, AgentKey, Problem
from orchestrator.cluster.effect import Effect
from orchestrator.cluster.lease import LeaseKeeper
from orchestrator.cluster.scope import Scope
from orchestrator.gate import Gate
from shared.config import Settings
from shared.kube.client import KubeClient
from shared.kube.errors import ForbiddenError
from shared.kube.leases import ALL_NAMESPACES, WorkerState, told_of
from shared.kube.names import agents_path
from shared.kube.objects import agent_alone
from shared.kube.watch import Follower
from shared.prompt import TRANSPARENCY_CLAUSE_VERSION

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Longest time between two looks at whether the agents are complete."""

STOP_S = 10.0
"""Longest that stopping may take."""


class ClusterSource:
    """Follows the Agents of a cluster, or of some namespaces, and keeps a catalog in step with them."""

    def __init__(self, settings: Settings, catalog: AgentCatalog, in_effect: Callable[[float], None]) -> None:
        """`in_effect` gets the seconds that each edit took until it was in effect here.

        Raises:
            ConfigurationError: a setting is missing.
        """
        self._namespaces: tuple[str | None, ...] = settings.watch_namespaces or (None,)
        self._catalog = catalog
        self._client = KubeClient(settings.kubeconfig)
        self._gate = Gate(settings.worker_lease_s)
        self._keeper = LeaseKeeper(settings, self._gate, self._state, self._relist)
        self._effect = Effect(
            self._client, catalog, in_effect=in_effect, told=self._keeper.changed, settled=self._settled
        )
        self._followed: dict[str | None, tuple[Scope, Follower]] = {}
        self._listing = asyncio.Event()
        self._progressed = asyncio.Event()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="agents-cluster", daemon=True)

    def start(self) -> None:
        """Begin; the worker is not accepting before its Lease is written and the first list in effect."""
        self._thread.start()

    def stop(self) -> None:
        """Take nothing any more, release the Lease, end the thread."""
        self._gate.shut()
        self._stopping.set()
        loop, main = self._loop, self._main
        if loop is not None and main is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(main.cancel)
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_S)

    def healthy(self) -> bool:
        """Whether every watched namespace is being followed."""
        followed = list(self._followed.values())
        return bool(followed) and all(follower.connected for _, follower in followed)

    def accepting(self) -> bool:
        """Whether the catalog is known to be what the proof says of this worker."""
        return self._gate.is_open

    def problems(self) -> tuple[Problem, ...]:
        """Return the watched namespaces that may not be read (any more)."""
        return tuple(
            Problem(
                f"namespace {namespace or ALL_NAMESPACES}",
                f"it may not be read ({follower.problem}); is the worker's Role there? "
                + ("edits there are not seen" if scope.seen is not None else "messages to its agents wait"),
            )
            for namespace, (scope, follower) in list(self._followed.items())
            if isinstance(follower.problem, ForbiddenError)
        )

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            with contextlib.suppress(asyncio.CancelledError):
                runner.run(self._live())

    async def _live(self) -> None:
        """Follow until cancelled, then release the Lease."""
        self._main = asyncio.current_task()
        try:
            while not self._stopping.is_set():
                try:
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._keeper.run(self._client))
                        group.create_task(self._effect.run())
                        group.create_task(self._follow())
                except Exception:
                    # A fault of this program: begin anew, and take nothing until that is done.
                    log.exception("following the agents failed; beginning anew")
                    self._gate.lapse()
                    await asyncio.sleep(LOOK_S)
        finally:
            await self._keeper.release(self._client)
            await self._client.close()

    def _relist(self) -> None:
        """Forget what was listed before the Lease was renewed; at once, so that nobody counts on it."""
        self._followed = {}
        self._listing.set()

    async def _follow(self) -> None:
        """Follow, and begin with new lists whenever that is asked for; open the gate after each."""
        while True:
            await self._listing.wait()
            self._listing.clear()
            self._followed = {name: self._follower(name) for name in self._namespaces}
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(follower.run()) for _, follower in self._followed.values()]
                await self._open()
                await self._listing.wait()
                for task in running:
                    task.cancel()

    def _follower(self, namespace: str | None) -> tuple[Scope, Follower]:
        scope = Scope(namespace, self._effect, self._note_progress)
        return scope, Follower(self._client, agents_path(namespace), scope, slim=agent_alone)

    def _note_progress(self) -> None:
        self._progressed.set()
        self._keeper.changed()

    async def _open(self) -> None:
        """Open the gate once every namespace is listed; return then, or when lists are asked for again.

        A namespace that may not be read (it is gone, or its Role is not there yet) holds up no other;
        its agents are unknown here, so messages to agents that are nowhere else wait.
        """
        opened = False
        while not self._listing.is_set():
            states = [
                (scope.seen is not None, follower.problem) for scope, follower in self._followed.values()
            ]
            self._catalog.complete = all(listed for listed, _ in states)
            known = all(listed or isinstance(problem, ForbiddenError) for listed, problem in states)
            if known and not opened and any(listed for listed, _ in states) and self._forget_unlisted():
                opened = True
                self._gate.caught_up()
                log.info("%d agents in effect, %d refused", len(self._catalog), len(self._catalog.problems))
            if self._catalog.complete:
                return
            self._progressed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._progressed.wait()

    def _forget_unlisted(self) -> bool:
        """Take out of effect what was read where nothing may be read any more; whether that is done.

        Edits there may have been called in effect while this worker was away.
        """
        unlisted = [scope for scope, _ in self._followed.values() if not scope.begun]
        for scope in unlisted:
            scope.forget()
        return not any(scope.waits for scope in unlisted)

    def _settled(self, key: AgentKey) -> None:
        for scope, _ in self._followed.values():
            scope.settled(key)

    def _state(self) -> WorkerState:
        refusals = self._effect.refusals()
        named, hidden = told_of(refusals)
        return WorkerState(
            seen={
                namespace or ALL_NAMESPACES: scope.seen
                for namespace, (scope, _) in self._followed.items()
                if scope.seen is not None
            },
            refused=named,
            refused_total=len(refusals),
            hidden=hidden,
            clause=TRANSPARENCY_CLAUSE_VERSION,
        )
