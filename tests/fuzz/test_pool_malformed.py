"""What is no request: the llm-pool answers with a problem document or closes, soon, never with a 500."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.contract import PROBLEM_MEDIA_TYPE, Problem
from tests.fuzz.pool_fixtures import MAX_BODY, Address, pool_process
from tests.support.fuzzing import tries

GOOD = json.dumps(
    {"model": "fast", "messages": [{"role": "user", "content": "Hi"}], "tenant_id": "acme"}
).encode()

SOON_S = 10.0
"""Longest that an answer may take, on a busy machine."""


def field(name: str, value: str) -> bytes:
    """Make a good body with `value`, written as it is, for a field."""
    return GOOD[:-1] + f', "{name}": {value}}}'.encode()


BODIES = [
    GOOD,
    b"",
    b"null",
    b"[" * 30_000,
    b"[" * 20_000 + b"]" * 20_000,
    b'{"a":' * 9_000 + b"1" + b"}" * 9_000,
    GOOD[:-1],
    GOOD + GOOD,
    GOOD.decode().encode("utf-16"),
    b"\xef\xbb\xbf" + GOOD,
    GOOD.replace(b"Hi", b"\xff\xfe"),
    GOOD.replace(b"Hi", b"\\ud800"),
    GOOD.replace(b"Hi", b"\\u0000"),
    GOOD.replace(b"Hi", b"\x00"),
    GOOD.replace(b'"Hi"', b'"Hi", "content": "again"'),
    field("model", '"quality"'),
    *(field("max_tokens", value) for value in ("NaN", "1e400", "-1", "9" * 5000, "1.5", "true", '"7"')),
    *(field("temperature", value) for value in ("NaN", "Infinity", "-Infinity", "1e-400", "-0", "9" * 400)),
    *(field("timeout_s", value) for value in ("NaN", "5e-324", "1e308", "null", "[]", "{}")),
    b"x" * (MAX_BODY + 1),
]
"""Bodies that somebody's client may send."""

HEADS = [
    b"POST /complete HTTP/1.1\r\nHost: pool\r\n",
    b"POST /complete HTTP/1.0\r\n",
    b"POST /complete HTTP/9.9\r\nHost: pool\r\n",
    b"POST /complete\r\n",
    b"POST  /complete  HTTP/1.1\r\nHost: pool\r\n",
    b"POST /complete HTTP/1.1\nHost: pool\n",
    b"POST //complete/../complete?x=%00%ff HTTP/1.1\r\nHost: pool\r\n",
    b"PO\x00ST /complete HTTP/1.1\r\nHost: pool\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nno colon\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nX: " + b"y" * 70_000 + b"\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nAuthorization: \xff\xfe\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nTraceparent: 00-zz-\x80\r\nX-Konstruct-Message-Id: \xe9\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nExpect: 100-continue\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    b"POST /complete HTTP/1.1\r\nHost: pool\r\nContent-Type: text/plain; charset=\xff\r\n",
    b"GET /complete HTTP/1.1\r\nHost: pool\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"",
]
"""Beginnings of a request, before it is said how long the body is."""

LENGTHS = [
    "right",
    "short",
    "long",
    "-1",
    "1e3",
    "0x10",
    "9" * 40,
    "",
    "twice",
    "chunked",
    "chunked and long",
]
"""What is said of the body's length."""


def framed(head: bytes, body: bytes, length: str, chunk_end: bytes) -> bytes:
    """Put a request together."""
    said = {"right": len(body), "short": max(0, len(body) - 3), "long": len(body) + 50}
    lines = [f"Content-Length: {said.get(length, length)}".encode()]
    if length == "twice":
        lines = [b"Content-Length: 3", b"Content-Length: %d" % len(body)]
    if "chunked" in length:
        lines = [b"Transfer-Encoding: chunked", *([b"Content-Length: 5000"] if "long" in length else [])]
        body = b"%x\r\n%s\r\n%s" % (len(body), body, chunk_end) if body else chunk_end
    return head + b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body


requests = st.binary(max_size=300) | st.builds(
    framed,
    st.sampled_from(HEADS),
    st.sampled_from(BODIES) | st.binary(max_size=200),
    st.sampled_from(LENGTHS),
    st.sampled_from([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"zz\r\n", b"-5\r\n\r\n", b"f" * 40 + b"\r\n", b""]),
)


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with pool_process() as made:
        yield made


def answer_to(address: Address, sent: bytes) -> bytes:
    """Send bytes, say that no more come once the pool waits for more, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", address.port), timeout=SOON_S) as connection:
        try:
            connection.sendall(sent)
            connection.settimeout(0.2)
            came = _receive(connection)
            if came is None:  # it waits for more
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(SOON_S)
                came = _receive(connection)
        except (ConnectionResetError, BrokenPipeError):
            return b""  # closed while something was still unread
    assert came is not None, "no answer, and no end"
    return came


def _receive(connection: socket.socket) -> bytes | None:
    """Read until the end; None when nothing comes in time."""
    came = b""
    try:
        while part := connection.recv(65_536):
            came += part
    except TimeoutError:
        if not came:
            return None
    return came


def check(came: bytes) -> None:
    """Check that an answer is a reply, or a problem document."""
    came = came.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    while came.startswith(b"HTTP/1.1 102 "):  # to whoever says that it will send no more
        came = came.partition(b"\r\n\r\n")[2]
    if not came:
        return
    head, _, body = came.partition(b"\r\n\r\n")
    line, *headers = head.decode("latin-1").split("\r\n")
    version, status, *_ = line.split(" ", 2)
    assert version in ("HTTP/1.1", "HTTP/1.0")
    assert int(status) in (200, 400, 404, 405, 408, 413, 422, 431, 504), line
    if int(status) >= 400:
        assert f"content-type: {PROBLEM_MEDIA_TYPE}" in [header.lower() for header in headers]
        assert Problem.model_validate_json(body).status == int(status)


@pytest.mark.timeout(0)
@given(sent=requests)
@example(framed(HEADS[0], BODIES[4], "right", b""))
@example(framed(HEADS[0], GOOD, "chunked", b"zz\r\n"))
@example(framed(HEADS[0], GOOD, "-1", b""))
@example(framed(HEADS[0], GOOD, "twice", b""))
@tries(150)
def test_no_bytes_make_the_pool_fail_or_hang(address: Address, sent: bytes) -> None:
    began = time.monotonic()
    check(answer_to(address, sent))
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("body", BODIES, ids=lambda body: repr(body[:40]))
def test_every_strange_body_has_a_proper_answer(address: Address, body: bytes) -> None:
    came = answer_to(address, framed(HEADS[0], body, "right", b""))
    assert came.startswith(b"HTTP/1.1 ")
    check(came)
