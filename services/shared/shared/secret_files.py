"""Secrets from mounted files: ``NAME_FILE`` names the file that holds the value of ``NAME``.

Read once, when a process starts. A message never repeats what a variable or a file holds, nor the path: a
secret may have been put there by mistake.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

from shared.errors import ConfigurationError

FILE_SUFFIX = "_FILE"
"""Suffix of a variable that names a file."""

MAY_BE_MISSING = "-"
"""Before a path: the file need not exist, as in systemd's ``EnvironmentFile``; the value is then unset."""

LARGEST_BYTES = 65_536
"""Largest file that is read: a URL, a token, a key or a service account's JSON is far smaller."""


def secret_of(environ: Mapping[str, str], variable: str) -> str | None:
    """Return the value of `variable`, or what the file named by ``<variable>_FILE`` holds; None: unset.

    Raises:
        ConfigurationError: both are set, or the file cannot be read, is empty or too large.
    """
    value, path = environ.get(variable), environ.get(variable + FILE_SUFFIX)
    if not path:
        return value
    if value:
        raise ConfigurationError(f"{variable} and {variable}{FILE_SUFFIX} are both set; unset one of them")
    return read_secret(variable + FILE_SUFFIX, path)


def read_secret(variable: str, path: str) -> str | None:
    """Read the file at `path`, without white space at its end; None: it is missing, as `path` allows.

    Args:
        variable: Names the file in messages.
        path: The file; `MAY_BE_MISSING` before it if it need not exist.

    Raises:
        ConfigurationError: the file cannot be read, is empty or too large.
    """
    try:
        # Without O_NONBLOCK a named pipe would be waited for.
        opened = os.open(path.removeprefix(MAY_BE_MISSING), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                raise ConfigurationError(f"{variable}: must name a regular file that holds the value")
            with open(opened, "rb", closefd=False) as file:
                content = file.read(LARGEST_BYTES + 1)
        finally:
            os.close(opened)
    except FileNotFoundError:
        if path.startswith(MAY_BE_MISSING):
            return None
        raise ConfigurationError(
            f"{variable}: names a file that does not exist; mount it, or write {MAY_BE_MISSING} before the "
            "path if it need not exist"
        ) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a path"
        raise ConfigurationError(f"{variable}: names a file that cannot be read: {reason}") from None
    if len(content) > LARGEST_BYTES:
        raise ConfigurationError(f"{variable}: names a file of more than {LARGEST_BYTES} bytes")
    try:
        value = content.decode().rstrip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{variable}: names a file that is not UTF-8 text") from None
    if not value:
        raise ConfigurationError(f"{variable}: names an empty file; write the value into it")
    return value


def without(environ: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` without `variables`, in either form: they are set to something else."""
    dropped = {name for variable in variables for name in (variable, variable + FILE_SUFFIX)}
    return {name: value for name, value in environ.items() if name not in dropped}


class WithFiles(Mapping[str, str]):
    """An environment in which ``NAME`` is also found where only ``NAME_FILE`` is set.

    A file is read when its variable is first asked for, so that variables of others that end in ``_FILE``
    (such as ``SSL_CERT_FILE``) mean what they always did. Asking for one raises ConfigurationError as
    `secret_of` does. Iteration lists the variables that are set themselves.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: dict[str, str | None] = {}

    def __getitem__(self, name: str) -> str:
        """Return the value of `name`, from its file if need be."""
        if name not in self._known:
            self._known[name] = secret_of(self._environ, name)
        value = self._known[name]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        """List the variables that are set themselves."""
        return iter(self._environ)

    def __len__(self) -> int:
        """Count them."""
        return len(self._environ)
