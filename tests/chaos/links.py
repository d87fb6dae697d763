"""The links between the processes of the fault suite: each passes a proxy that can cut it or swallow all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from tests.support.tcp_proxy import Mode, TcpProxy


class Links:
    """Proxies by the name of their link; a context manager."""

    def __init__(self) -> None:
        self._end = ExitStack()
        self._proxies: dict[str, list[TcpProxy]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.close()

    def add(self, name: str, port: int) -> int:
        """Put a proxy before `port`, as (part of) the link `name`, and return the proxy's port."""
        proxy = self._end.enter_context(TcpProxy(port))
        self._proxies.setdefault(name, []).append(proxy)
        return proxy.port

    def redirect(self, name: str, port: int, urls: Mapping[str, str]) -> dict[str, str]:
        """Add a link to `port`, and return `urls` with the proxy's port in place of that."""
        through = self.add(name, port)
        return {key: url.replace(f":{port}", f":{through}") for key, url in urls.items()}

    def client_of(self, name: str, port: int) -> int | None:
        """Return the port of the client behind the connection that a link's server sees come from `port`."""
        for proxy in self._proxies[name]:
            if (found := proxy.client_of(port)) is not None:
                return found
        return None

    @contextmanager
    def cut(self, name: str) -> Iterator[None]:
        """Reset every connection of a link, and refuse new ones, for the block."""
        with self._in(name, Mode.REFUSE):
            for proxy in self._proxies[name]:
                proxy.reset()
            yield

    @contextmanager
    def swallow(self, name: str) -> Iterator[None]:
        """Take bytes and connections of a link, and give nothing back, for the block.

        What was open then is half open for ever: neither a byte nor an end comes through it any more.
        """
        with self._in(name, Mode.BLACKHOLE):
            yield

    def forget(self) -> None:
        """End what was left half open, as the kernels of both sides do in the end."""
        for proxies in self._proxies.values():
            for proxy in proxies:
                proxy.reset_frozen()

    @contextmanager
    def _in(self, name: str, mode: Mode) -> Iterator[None]:
        for proxy in self._proxies[name]:
            proxy.set(mode)
        try:
            yield
        finally:
            for proxy in self._proxies[name]:
                proxy.set(Mode.PASS)
