"""Becomes a program inside an image's files, held back the way a container with the strictest settings is.

    python enter.py ROOT UID GID WORKDIR [SOURCE:TARGET ...] -- PROGRAM [ARGUMENT ...]

For machines where no container engine can run one. In a mount namespace of its own: ROOT is read-only,
/tmp is the only place to write, SOURCEs are mounted read-only; then chroot, no capabilities (bounding set
empty), no new privileges, UID and GID alone. The network is the machine's. Only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

CLONE_NEWNS = 0x0002_0000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 0x1, 0x20, 0x1000, 0x4000, 0x4_0000
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), what)


def mount(source: str, target: Path, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, str(target), kind)]
    check(libc.mount(*encoded, ctypes.c_ulong(flags), options and options.encode()), f"mount {target}")


def bind(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    mount(str(source), target, None, MS_BIND | MS_REC)


def furnish(root: Path, volumes: list[str]) -> None:
    """Mount what every container has, and the volumes; then nothing of the root can be written."""
    check(libc.unshare(CLONE_NEWNS), "unshare")
    mount("none", Path("/"), None, MS_REC | MS_PRIVATE)
    mount(str(root), root, None, MS_BIND | MS_REC)
    mount("tmpfs", root / "tmp", "tmpfs", 0, "mode=1777,size=64m")
    mount("tmpfs", root / "dev", "tmpfs", 0, "mode=0755,size=1m")
    for name in ("null", "zero", "random", "urandom"):
        bind(Path("/dev", name), root / "dev" / name)
    (root / "dev/shm").mkdir()
    mount("tmpfs", root / "dev/shm", "tmpfs", 0, "mode=1777,size=64m")
    bind(Path("/proc"), root / "proc")
    for name in ("hosts", "resolv.conf"):
        bind(Path("/etc", name), root / "etc" / name)
    for volume in volumes:
        source, _, inside = volume.partition(":")
        target = root / inside.lstrip("/")
        bind(Path(source), target)
        mount("none", target, None, MS_REMOUNT | MS_BIND | MS_RDONLY)
    mount("none", root, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def give_up_privileges(uid: int, gid: int) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in range(last + 1):
        check(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "drop a capability")
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    # After setuid, which clears it.
    check(libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "die with the parent")


def main() -> None:
    end = sys.argv.index("--")
    root, uid, gid, workdir, *volumes = sys.argv[1:end]
    command = sys.argv[end + 1 :]
    furnish(Path(root), volumes)
    os.chroot(root)
    os.chdir(workdir)
    give_up_privileges(int(uid), int(gid))
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
