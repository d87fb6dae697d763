"""Child processes: watched until ready, ended for certain, never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from konstruct_cli.stack.process import (
    LOOPBACK,
    ManagedProcess,
    PortTakenError,
    StackError,
    claim_port,
    unprivileged_account,
)
from tests.support.stack_lifeline import Lifeline, free, wait_free


def python(code: str, tmp_path: Path, **options: object) -> ManagedProcess:
    return ManagedProcess("the child", [sys.executable, "-c", code], log=tmp_path / "child.log", **options)  # type: ignore[arg-type]


def says(process: ManagedProcess, word: str) -> bool:
    return word in process.tail()


def test_a_child_that_ends_early_is_reported_with_its_log(tmp_path: Path) -> None:
    process = python("import sys; print('the disk is full'); sys.exit(3)", tmp_path)
    process.start()
    with pytest.raises(StackError, match=r"the child ended with exit code 3 before(?s:.*)the disk is full"):
        process.wait_ready(lambda: False, deadline_s=20)
    process.stop()


def test_a_child_that_is_never_ready_is_reported_at_the_deadline(tmp_path: Path) -> None:
    with python("print('loading', flush=True); import time; time.sleep(1000)", tmp_path) as process:
        process.wait_ready(lambda: says(process, "loading"), deadline_s=20)
        with pytest.raises(StackError, match=r"the child was not ready after 0\.1 s(?s:.*)loading"):
            process.wait_ready(lambda: False, deadline_s=0.1)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = ManagedProcess("the child", [tmp_path / "no-such-program"], log=tmp_path / "child.log")
    process.start()
    with pytest.raises(StackError, match=r"cannot run .*no-such-program: No such file or directory"):
        process.wait_ready(lambda: False, deadline_s=20)
    process.stop()


def test_the_log_of_an_earlier_run_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "child.log").write_text("an old complaint\n")
    process = python("raise SystemExit('a new complaint')", tmp_path)
    process.start()
    with pytest.raises(StackError, match="a new complaint") as caught:
        process.wait(20)
    assert "old" not in str(caught.value)
    assert (tmp_path / "child.log").read_text().startswith("an old complaint\n")
    process.stop()


def test_a_child_that_ignores_the_signal_is_ended_by_force(tmp_path: Path) -> None:
    lifeline = Lifeline(tmp_path / "lock")
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(1000)"
    )
    process = python(code, tmp_path, grace_s=0.2, keep_open=(lifeline.descriptor,))
    process.start()
    lifeline.let_go()
    process.wait_ready(lambda: says(process, "deaf"), deadline_s=20)
    assert not free(lifeline.path)
    process.stop()
    assert free(lifeline.path)


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    lifeline = Lifeline(tmp_path / "lock")
    code = (
        "import subprocess, time;"
        f"subprocess.Popen(['sleep', '1000'], pass_fds=({lifeline.descriptor},));"
        "print('started', flush=True); time.sleep(1000)"
    )
    process = python(code, tmp_path, keep_open=(lifeline.descriptor,))
    process.start()
    lifeline.let_go()
    process.wait_ready(lambda: says(process, "started"), deadline_s=20)
    process.stop()
    assert wait_free(lifeline.path, 5)


def test_stopping_twice_and_before_a_start_is_harmless(tmp_path: Path) -> None:
    process = python("pass", tmp_path)
    process.stop()
    process.start()
    process.stop()
    process.stop()


def test_children_do_not_get_ctrl_c_from_the_terminal(tmp_path: Path) -> None:
    with python("import time; print('up', flush=True); time.sleep(1000)", tmp_path) as process:
        process.wait_ready(lambda: says(process, "up"), deadline_s=20)
        assert os.getsid(process.pid) == process.pid != os.getsid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_a_child_that_may_not_be_root_reaches_root_s_folders_and_gets_no_more(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("within reach")
    (closed / "file").chmod(0o600)
    code = (
        f"import os; path = {str(closed / 'file')!r};"
        "print(os.getuid(), os.access(path, os.R_OK), open(path).read(), flush=True);"
        "os.setuid(0)"
    )
    process = python(code, tmp_path, account=unprivileged_account())
    process.start()
    with pytest.raises(StackError, match=r"65534 True within reach\n(?s:.*)PermissionError"):
        process.wait(20)
    process.stop()


def test_a_taken_port_is_refused_with_what_to_do() -> None:
    with socket.socket() as other:
        other.bind((LOOPBACK, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTakenError, match=rf"Redis cannot have port {port} .*ss -ltnp"):
            claim_port("Redis", port)
    assert claim_port("Redis", port) == port


def test_chosen_ports_are_free() -> None:
    port = claim_port("Redis", None)
    with socket.socket() as ours:
        ours.bind((LOOPBACK, port))


_PARENT = """
import sys, threading
from pathlib import Path
from konstruct_cli.stack.model import Model
from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis
from tests.support.stack_lifeline import Lifeline

folder = Path(sys.argv[1])
lifeline = Lifeline(folder / "lock")
keep = (lifeline.descriptor,)
Postgres(folder / "postgres", durable=False, keep_open=keep).start()
Redis(folder / "redis", keep_open=keep).start()
Model(folder / "model.log", keep_open=keep).start()
print("up", flush=True)
threading.Event().wait()
"""


def test_a_parent_killed_outright_leaves_no_child(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        assert not free(tmp_path / "lock")
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)
        assert wait_free(tmp_path / "lock", 10), "a server outlived its parent"
