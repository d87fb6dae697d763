"""Exceptions as the log tells them: where they came from, and only the words that are safe to repeat.

A library's message may quote what somebody wrote or a key that was refused. Messages are repeated where
Konstruct wrote them, or the operating system; of any other exception the log has its type and its frames.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

_OWN = frozenset({"shared", "orchestrator", "llm_pool", "konstruct_operator", "konstruct_cli"})
"""Packages whose exceptions say nothing that must not be logged."""

MOST_LINKS = 10
"""Exceptions of one chain or group that are told of."""


def describe(error: BaseException) -> str:
    """Describe `error` and what led to it, the first cause first, in lines."""
    links = list(_links(error, MOST_LINKS))
    return "\n".join(line for link in reversed(links) for line in _lines(link))


def without_quotation(text: str, error: BaseException) -> str:
    """Return `text`, which tells of `error`, without the words of a library's exception."""
    if _may_be_quoted(error):
        return text
    kind, words = type(error).__name__, str(error)
    text = text.replace(repr(error), kind)
    # Words may be as short as a digit: only where libraries put them.
    return text.removesuffix(words) + kind if words and text.endswith(words) else text


def _links(error: BaseException | None, most: int) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting and len(seen) < most:
        link = waiting.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        if isinstance(link, BaseExceptionGroup):
            waiting.extend(link.exceptions)
        waiting.append(link.__cause__ or (None if link.__suppress_context__ else link.__context__))


def _lines(error: BaseException) -> Iterator[str]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    yield f"{name}: {error}" if _may_be_quoted(error) else name
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield f"  {frame.f_code.co_filename}:{line} in {frame.f_code.co_qualname}"


def _may_be_quoted(error: BaseException) -> bool:
    root = type(error).__module__.partition(".")[0]
    return root in _OWN or (root == "builtins" and isinstance(error, OSError))
