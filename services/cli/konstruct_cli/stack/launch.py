"""The first program in every child process: ties the child to its parent's life, then becomes the server.

Run as a script by :mod:`konstruct_cli.stack.process`, with the standard library only, before the real
program is executed in its place. It is a program of its own because this work must happen in the child,
and running Python between fork and exec is not safe once the parent has threads.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL UID GID -- PROGRAM [ARGUMENT ...]

UID and GID are -1 to stay who we are.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""``prctl`` option: the signal that this process gets when its parent dies."""

_PR_SET_SECUREBITS = 28
"""``prctl`` option: how capabilities follow a change of user."""

_NO_SETUID_FIXUP = 1 << 2
"""Secure bit: a change of user keeps capabilities, and ``access()`` counts them."""

_PR_CAP_AMBIENT = 47
"""``prctl`` option: capabilities that a plain program keeps through exec."""

_PR_CAP_AMBIENT_RAISE = 2
"""Operation of the option above."""

_CAP_DAC_OVERRIDE = 1
"""Capability to pass a file's permission bits."""

_CAPABILITY_VERSION_3 = 0x20080522
"""Layout of the structures that ``capset`` takes."""


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def main(arguments: list[str]) -> None:
    """Prepare this process and become the program named after ``--``."""
    parent, death_signal, uid, gid = (int(value) for value in arguments[:4])
    program = arguments[5:]
    if uid >= 0:
        _become(uid, gid)
    if sys.platform == "linux":
        # After the change of user, which clears it.
        _libc().prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that asked for this one is gone")
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(program[0], program)  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


def _become(uid: int, gid: int) -> None:
    """Change to an unprivileged user that can still reach what root's folders hold.

    PostgreSQL refuses to run as root, while a checkout, a virtual environment and temporary folders made
    by root are often closed to everybody else: the one capability that opens files stays.
    """
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_SECUREBITS, _NO_SETUID_FIXUP, 0, 0, 0)
    try:
        os.setgroups([])
        os.setregid(gid, gid)
        os.setreuid(uid, uid)
    except OSError as error:
        sys.exit(f"cannot become user {uid} ({error.strerror}): run this as an ordinary user, not as root")
    if sys.platform == "linux":
        _keep_one_capability(uid)


def _keep_one_capability(uid: int) -> None:
    libc = _libc()
    mask = 1 << _CAP_DAC_OVERRIDE
    header = _CapabilityHeader(_CAPABILITY_VERSION_3, 0)
    kept = (_CapabilityData * 2)(_CapabilityData(mask, mask, mask))
    none = (_CapabilityData * 2)()
    if libc.capset(ctypes.byref(header), ctypes.byref(kept)) == 0:
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)
    elif libc.capset(ctypes.byref(header), ctypes.byref(none)) == 0:
        # A container withholds it. What follows still works where folders are open.
        sys.stderr.write(
            f"without CAP_DAC_OVERRIDE, user {uid} cannot pass folders that only root may open\n"
        )
    else:
        sys.exit("cannot give up root's capabilities: run this as an ordinary user, not as root")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main(sys.argv[1:])
