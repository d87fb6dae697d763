"""How provider answers are read: reasons from status and text, Retry-After in its three forms."""

from __future__ import annotations

import pytest

from llm_pool.failures import MAX_RETRY_AFTER_S, reason_of, retry_after_of


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (400, "", "bad_request"),
        (400, '{"error":{"code":"context_length_exceeded"}}', "context_window"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", "context_window"),
        (400, '{"error":{"type":"exceed_context_size_error"}}', "context_window"),
        (413, "the request exceeds the context window", "context_window"),
        (400, "Output blocked by content filtering policy", "content_policy"),
        (400, '{"error":{"code":"content_filter"}}', "content_policy"),
        (400, "Your credit balance is too low to access the API", "auth"),
        (403, '{"error":{"code":"model_not_found"}}', "model_not_found"),
        (401, "", "auth"),
        (402, "", "auth"),
        (403, "", "auth"),
        (404, "", "model_not_found"),
        (408, "", "timeout"),
        (409, "", "bad_request"),
        (413, "", "bad_request"),
        (422, "", "bad_request"),
        (429, "insufficient_quota", "rate_limited"),
        (500, "maximum context length", "unavailable"),
        (503, "", "unavailable"),
        (504, "", "timeout"),
        (529, "", "unavailable"),
        (302, "", "unavailable"),
        (204, "", "unavailable"),
    ],
)
def test_reason(status: int, text: str, reason: str) -> None:
    assert reason_of(status, text) == reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "99999999"}, MAX_RETRY_AFTER_S),
        ({"retry-after": "9", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "9", "retry-after-ms": "x"}, 9.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_of(headers, now=100.0) == seconds
