"""A package index on loopback that demands a password: the real one, its addresses led through here.

It is also a proxy that demands a password. Whoever installs from it has both, or nothing.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psutil

DEFAULT = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
"""Prints the index that pip asks when no setting names one."""

LISTS = ("text/html", "application/vnd.pypi.simple")
"""How content types start that hold addresses of files."""


@dataclass(frozen=True)
class Login:
    """A user and a password."""

    user: str
    password: str

    def __str__(self) -> str:
        """As URLs write it."""
        return f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"

    def header(self) -> str:
        """As requests write it."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass
class PackageIndex:
    """The server, and what it was asked."""

    server: ThreadingHTTPServer
    index: Login
    """What the index demands."""
    proxy: Login
    """What the proxy demands."""
    served: list[str] = field(default_factory=list)
    """Names of what was answered with 200: projects and files."""
    refused: list[str] = field(default_factory=list)
    """What was asked for without one of the passwords."""
    command_lines: set[str] = field(default_factory=set)
    """The arguments of every process there was while something was asked for."""

    @property
    def url(self) -> str:
        """Where the index is, for pip and uv."""
        scheme, host, *rest = urlsplit(real_index())
        return urlunsplit(("http", f"{self.index}@{self._at}", f"/{scheme}/{host}{rest[0]}", *rest[1:]))

    @property
    def proxy_url(self) -> str:
        """Where the proxy is."""
        return f"http://{self.proxy}@{self._at}"

    @property
    def _at(self) -> str:
        return f"127.0.0.1:{self.server.server_address[1]}"

    def lead_back(self, page: bytes) -> bytes:
        """Have every address of a page lead here."""
        return re.sub(rb"\b(https?)://", rf"http://{self._at}/\1/".encode(), page)


def real_index() -> str:
    """The index that pip and uv of this machine are set to, else pip's own."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        if os.environ.get(name):
            return os.environ[name]
    for arguments in (["-m", "pip", "config", "get", "global.index-url"], ["-c", DEFAULT]):
        asked = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
        if asked.returncode == 0:
            return asked.stdout.strip()
    raise AssertionError("pip knows no index")


def fetch(url: str, accept: str) -> tuple[int, str, bytes]:
    """Ask the real index: status, content type, body."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)), headers={"accept": accept})
    if login:
        request.add_header("authorization", "Basic " + base64.b64encode(login.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get("content-type", ""), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, "text/plain", b""


def command_lines() -> set[str]:
    """The arguments of every process of this machine."""
    return {" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])}


@contextmanager
def running_package_index(index: Login, proxy: Login) -> Iterator[PackageIndex]:
    """Run one on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.command_lines |= command_lines()
            path = urlsplit(self.path).path
            if self.headers["proxy-authorization"] != made.proxy.header():
                self.refuse(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, "proxy-authenticate")
            elif self.headers["authorization"] != made.index.header():
                self.refuse(HTTPStatus.UNAUTHORIZED, "www-authenticate")
            else:
                scheme, _, rest = path.lstrip("/").partition("/")
                status, kind, body = fetch(f"{scheme}://{rest}", self.headers.get("accept", "*/*"))
                if kind.startswith(LISTS):
                    body = made.lead_back(body)
                if status == HTTPStatus.OK:
                    made.served.append(path.rstrip("/").rpartition("/")[2])
                self.answer(status, {"content-type": kind}, body)

        def refuse(self, status: HTTPStatus, header: str) -> None:
            made.refused.append(self.path)
            self.answer(status, {header: 'Basic realm="packages"'}, b"")

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - inherited
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

    made = PackageIndex(Server(("127.0.0.1", 0), Handler), index, proxy)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join(timeout=5)
