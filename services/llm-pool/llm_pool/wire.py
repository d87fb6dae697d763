"""Requests that are no HTTP: answered below the application, and as a problem document too."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm_pool.problems import problem
from shared.contract import ProblemCode


class PoolProtocol(HttpToolsProtocol):
    """uvicorn's protocol, whose own complaint is plain text."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - inherited; parsers' words help nobody
        """Answer what cannot be parsed and close: nobody knows where the next request begins."""
        answer = problem(
            ProblemCode.INVALID_REQUEST,
            "This is no HTTP request that can be read.",
            status=400,
            headers={"Connection": "close"},
        )
        head = [b"%s: %s\r\n" % header for header in answer.raw_headers]
        self.transport.write(b"".join([b"HTTP/1.1 400 Bad Request\r\n", *head, b"\r\n", answer.body]))
        self.transport.close()
