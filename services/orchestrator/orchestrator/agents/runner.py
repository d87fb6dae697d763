"""Asking the llm-pool. Whatever goes wrong becomes a polite sentence; nothing is raised to the caller.

What may pass by itself is asked again within the message's own time (:mod:`orchestrator.agents.patience`).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from orchestrator.agents.answers import (
    NO_ANSWER,
    RunResult,
    apology,
    read_answer,
    read_failure,
    retry_after_s,
    trouble_of,
)
from orchestrator.agents.patience import Budget, Circuit, Trouble, backoff_s
from orchestrator.tracing import answered, asking
from shared.config import Settings
from shared.contract import CompletionRequest
from shared.net import attentive_socket
from shared.reply import Reason
from shared.tls import trusting
from shared.tracing import trace_headers

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 3.0
"""Seconds until a connection to the llm-pool, or a probe of it, is given up."""

KEEP_ALIVE_S = 3.0
"""Seconds an idle connection is kept: less than the five after which uvicorn closes it."""

GRACE_S = 2.0
"""Seconds the pool's answer may take beyond the time it was given, so that its 504 can arrive."""

DEFAULT_TIMEOUT_S = 60.0
"""Seconds for a request that names none."""

WORTH_ASKING_S = 1.0
"""Seconds that must be left for another try."""

MOST_LOST = 3
"""Times one request may be lost with its connection: it may itself be what ends the pool."""


def request_timeout_s(deadline_s: float) -> float:
    """Return the seconds that a request gets of its message's `deadline_s`; the rest is for the answer."""
    return max(deadline_s - 2 * GRACE_S, deadline_s / 2)


class _PoolAwayError(Exception):
    """The pool was away all the time that there was."""


class Runner:
    """Asks one llm-pool. Made once per worker and shared by its threads.

    A client belongs to one event loop, and each task has a loop of its own that ends with it. So the
    client lives on a loop in a thread of this class, where its connections and its SSL context last, and
    tasks wait for what it does there (ADR 0005). Retries are decided there too, for all of them.
    """

    def __init__(self, settings: Settings, retried: Callable[[Trouble], None] = lambda _: None) -> None:
        """Keep what it needs; `retried` is told of each request that is sent again, and why."""
        self._url = settings.llm_pool_url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if settings.llm_pool_token is not None:
            self._headers["authorization"] = f"Bearer {settings.llm_pool_token.get_secret_value()}"
        self._trust: ssl.SSLContext | bool = True
        if self._url.startswith("https://"):
            self._trust = trusting(settings.llm_pool_ca_file, "llm_pool_ca_file")
        self._connections = settings.worker_concurrency + 1  # and one to probe with
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="llm-pool-client", daemon=True)
        self._client: httpx.AsyncClient | None = None
        self._retried = retried
        self._budget = Budget(settings.worker_concurrency)
        self._circuit = Circuit(self._is_there, _tell)
        self._waiting: set[asyncio.Task[object]] = set()
        self._ending = False

    @property
    def away(self) -> bool:
        """Whether the pool is taken to be away: messages wait, and one probe at a time asks for it."""
        return self._circuit.is_open

    def start(self) -> None:
        """Start the loop that the client lives on."""
        self._thread.start()

    def stop_waiting(self) -> None:
        """Cancel the messages that wait to ask again, now and from now on. Returns at once."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._cancel_waiting)

    def close(self) -> None:
        """Close the client's connections and end its loop."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._close_there(), self._loop).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    async def run(self, request: CompletionRequest, about: Mapping[str, str] | None = None) -> RunResult:
        """POST `request` to ``/complete``, with headers that say what it is `about`.

        Never raises, but for the cancellation of the task itself, which is not the pool's failure, and of
        its waiting when the worker shuts down.
        """
        try:
            with asking(f"{self._url}/complete") as span:
                # Read here: the client's loop runs in no trace.
                headers = {**self._headers, **(about or {}), **trace_headers()}
                # Cancelling the one cancels the other: wrap_future ties them together.
                response = await asyncio.wrap_future(
                    asyncio.run_coroutine_threadsafe(self._ask(request, headers), self._loop)
                )
                answered(span, response.status_code)
        except NO_ANSWER as error:
            return read_failure(error)
        except _PoolAwayError:
            return apology(Reason.POOL_UNREACHABLE, "it was away all the time")
        except Exception:
            log.exception("asking the llm-pool failed")
            return apology(Reason.INTERNAL_ERROR, "see the exception above")
        return read_answer(response)

    async def _ask(self, request: CompletionRequest, headers: Mapping[str, str]) -> httpx.Response:
        """Ask, and ask again while that may help and there is time. Runs on the client's loop.

        Raises:
            NO_ANSWER: nothing answered, the last time.
        """
        deadline = self._loop.time() + (request.timeout_s or DEFAULT_TIMEOUT_S)
        self._budget.earn()
        if self._circuit.is_open and not await self._may_ask(deadline):
            raise _PoolAwayError
        attempt = lost = 0
        while True:
            outcome = await self._ask_once(request, headers, deadline - self._loop.time())
            trouble = trouble_of(outcome)
            if trouble is not None and trouble.away:
                self._circuit.open()
            lost += trouble is Trouble.LOST
            if trouble is None or lost == MOST_LOST:
                return _answer_of(outcome)
            delay_s = retry_after_s(outcome) + backoff_s(attempt)
            if not await self._may_ask(deadline, delay_s, costs=trouble.costs):
                return _answer_of(outcome)
            self._retried(trouble)
            attempt += 1

    async def _may_ask(self, deadline: float, delay_s: float = 0.0, *, costs: bool = False) -> bool:
        """Wait for `delay_s`, for the pool to be there and for the budget; False: there is no time for it."""
        latest = deadline - WORTH_ASKING_S
        if self._loop.time() + delay_s > latest:
            return False
        try:
            with self._cancellable():
                async with asyncio.timeout_at(latest):
                    await asyncio.sleep(delay_s)
                    await self._circuit.wait()
                    while costs and (short_s := self._budget.take()):  # noqa: ASYNC110 - time adds to it
                        await asyncio.sleep(short_s)
        except TimeoutError:
            return False
        return True

    async def _ask_once(
        self, request: CompletionRequest, headers: Mapping[str, str], left_s: float
    ) -> httpx.Response | Exception:
        """Ask for what can be had in `left_s` seconds."""
        body = request.model_copy(update={"timeout_s": round(left_s, 3)}).model_dump_json(exclude_none=True)
        seconds = left_s + GRACE_S
        timeout = httpx.Timeout(seconds, connect=CONNECT_TIMEOUT_S)
        try:
            # httpx times each read; the whole answer has a limit too, against one that drips.
            async with asyncio.timeout(seconds):
                return await self._http().post(
                    f"{self._url}/complete", content=body, headers=headers, timeout=timeout
                )
        except NO_ANSWER as error:
            return error

    async def _is_there(self) -> bool:
        """Whether the pool, or something in its place, takes requests."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                answer = await self._http().get(f"{self._url}/readyz")
        except NO_ANSWER:
            return False
        return not answer.is_server_error

    def _http(self) -> httpx.AsyncClient:
        """Return the client; made on its own loop, on first use."""
        if self._client is None:
            # httpcore's pool looks at all its connections for each request: thrice the work at 32.
            connector = aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=KEEP_ALIVE_S,
                socket_factory=attentive_socket,
                ssl=self._trust,
            )
            session = aiohttp.ClientSession(connector=connector)
            self._client = httpx.AsyncClient(transport=AiohttpTransport(client=session), trust_env=False)
        return self._client

    @contextmanager
    def _cancellable(self) -> Iterator[None]:
        """Let the worker's end cancel the block."""
        task = asyncio.current_task()
        assert task is not None
        if self._ending:
            raise asyncio.CancelledError
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)

    def _cancel_waiting(self) -> None:
        self._ending = True
        for task in self._waiting:
            task.cancel()

    async def _close_there(self) -> None:
        await self._circuit.stop()
        if self._client is not None:
            await self._client.aclose()


def _answer_of(outcome: httpx.Response | Exception) -> httpx.Response:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _tell(seconds: float | None) -> None:
    """Log that the pool is away, or back after so many seconds."""
    if seconds is None:
        log.warning("the llm-pool is away: messages wait for it within their time")
    else:
        log.info("the llm-pool is back after %.1f s", seconds)
