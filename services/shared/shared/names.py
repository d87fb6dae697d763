"""The names that identify things, each with the form it must have."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
"""RFC 1123 label: what Kubernetes allows as a name or a label value in lower case."""

TenantId = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
"""A tenant, as in the namespace label ``konstruct.dev/tenant-id``."""

AgentName = Annotated[str, StringConstraints(pattern=DNS_LABEL, max_length=63)]
"""An agent, as in ``metadata.name``; unique within its tenant."""

GroupName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$", max_length=63)
]
"""A model group of the llm-pool, such as ``quality`` or ``fast``; never a provider's model id."""

EXTERNAL_ID = r"^[A-Za-z0-9][A-Za-z0-9._:@/=+-]{0,127}$"
"""Form of an id that is given from outside."""

ExternalId = Annotated[str, StringConstraints(pattern=EXTERNAL_ID, max_length=128)]
"""A message or thread id: given by the sender or a channel, opaque to Konstruct."""


def is_dns_label(text: str) -> bool:
    """Whether `text` has the form of a tenant or agent name."""
    return re.fullmatch(DNS_LABEL, text) is not None
