"""Whom a connection trusts, and how a certificate that is not trusted is told of."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from shared.config import PREFIX, ConfigurationError

_OF_POSTGRESQL = (
    "certificate verify failed",
    "does not match host name",
    "root certificate file",
    "could not read root certificate",
    "server does not support SSL",
)
"""What libpq says when it cannot trust a server; it gives no more than a text."""

TRUST_POSTGRESQL = (
    "PGSSLROOTCERT (or sslrootcert in the URL) names its authority, "
    "and the URL the host that it has its certificate for"
)
"""What to do about a PostgreSQL that is not trusted."""

TRUST_REDIS = (
    f"{PREFIX}REDIS_CA_FILE names its authority, and the URL the host that it has its certificate for"
)
"""What to do about a Redis that is not trusted."""


def trusting(ca_file: Path | None, setting: str) -> ssl.SSLContext:
    """Make the context of a client that trusts the authorities in `ca_file`; none: the system's.

    Raises:
        ConfigurationError: the file that `setting` names cannot be read, or holds no certificate.
    """
    if ca_file is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as error:  # ssl.SSLError is one
        raise ConfigurationError(_unreadable(setting, ca_file, error)) from None


def serving(cert_file: Path, key_file: Path | None) -> ssl.SSLContext:
    """Make the context of a server with this certificate; without `key_file` its key is in `cert_file`.

    Raises:
        ConfigurationError: they cannot be read, or do not belong to each other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert_file, key_file)
    except OSError as error:
        raise ConfigurationError(_unreadable("llm_pool_cert_file", cert_file, error)) from None
    return context


def certificate_fault(error: BaseException) -> str | None:
    """Say why a server is not trusted, if that is what `error` came of."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}".rstrip(".")
        for line in str(cause).splitlines():
            if any(words in line for words in _OF_POSTGRESQL):
                return f"its certificate is not trusted: {line.rpartition('failed: ')[2].strip()}"
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """List an exception and all that it came of."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "orig", None), *one.args)
        left.extend(cause for cause in inner if isinstance(cause, BaseException))


def _unreadable(setting: str, file: Path, error: OSError) -> str:
    why = (
        error.strerror
        if error.strerror and not isinstance(error, ssl.SSLError)
        else "it is not what it should be"
    )
    return f"{PREFIX}{setting.upper()}: {file} cannot be used ({why}); name a file in PEM form"
