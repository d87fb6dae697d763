"""What is repeated of a refusal: the words of the API server, without what they quote. Pure.

They go to logs, conditions and Events. A token, and what an Agent says, is not to be read there.
"""

from __future__ import annotations

import json
import re

LONGEST = 2000
"""Characters of a refusal that are repeated."""

_VALUE = re.compile(
    r"""(\bvalue:\ )"(?:[^"\\]|\\.)*"            # Invalid (Unsupported, Duplicate) value: "…"
      | (\bvalue:\ )[\[{].*?[\]}](?=:\ |,|$)     # the same of a list or an object
      | (\bgot\ &).*                             # expected map, got &{…}
      | (\bfor\ key\ ).*                         # duplicate entries for key ["…"]
    """,
    re.DOTALL | re.VERBOSE,
)
"""How an API server quotes what it refuses."""


def words_of(body: str, authorization: str = "") -> str:
    """Return what the body of a refusal says.

    Args:
        body: A Status, which the API server writes; nothing is repeated of what is none: whatever stands in
            between may show the request.
        authorization: The header that the request was sent with.
    """
    try:
        status = json.loads(body)
        message = str(status["message"]) if status["kind"] == "Status" else None
    except (ValueError, RecursionError, LookupError, TypeError):
        message = None
    if message is None:
        return "an answer that is no Status"
    return unquoted(message, authorization)


def unquoted(message: str, authorization: str = "") -> str:
    """Take out of a message the values that it quotes, and the credential that was sent."""
    credential = authorization.rpartition(" ")[2]
    told = message.replace(credential, "***") if credential else message
    return _VALUE.sub(lambda found: f"{found[1] or found[2] or found[3] or found[4]}…", told)[:LONGEST]
