"""``konstruct purge``: finished messages are deleted, a tenant's or those that are old enough."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path

import typer

from konstruct_cli.cluster.target import Cluster
from konstruct_cli.errors import ExitCode, UsageError
from konstruct_cli.messages import TenantName
from konstruct_cli.output import emit_json, say
from konstruct_cli.stacks import open_stack
from orchestrator.purged import LEAST, Purged

_AGE = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


_MOST = timedelta(days=36_500)
"""Longest age; PostgreSQL could not tell when a hundred times that was."""


def run(
    *,
    tenant: str | None,
    older_than: str | None,
    yes: bool,
    state_dir: Path | None,
    cluster: Cluster | None,
    as_json: bool,
) -> ExitCode:
    """Delete, after a question unless `yes`, and tell what was deleted and what is left."""
    if tenant is None and older_than is None:
        raise UsageError("say what: --tenant TENANT, or --older-than AGE (such as 30d), or both")
    named = None if tenant is None else TenantName.of(tenant).tenant
    age = LEAST if older_than is None else _age(older_than)
    if not yes:
        _ask(named, older_than)
    stack = open_stack(cluster, state_dir)
    try:
        purged = stack.purge(named, age)
    finally:
        stack.close()
    if as_json:
        emit_json(purged)
    else:
        _tell(purged, named)
    return ExitCode.OK


def _age(given: str) -> timedelta:
    parts = _AGE.fullmatch(given.strip())
    if parts is None:
        raise UsageError(f"--older-than {given!r} is no age: write a number and s, m, h or d, such as 30d")
    age = timedelta(**{_UNITS[parts[2]]: int(parts[1])})
    if age > _MOST:
        raise UsageError(f"--older-than {given} is longer ago than any message can be")
    if age < LEAST:
        raise UsageError(
            f"--older-than {given} is too short: what finished within the last hour is never deleted, "
            "for a copy of its delivery may still be on its way"
        )
    return age


def _ask(tenant: str | None, older_than: str | None) -> None:
    what = "every finished message" + (f" of tenant {tenant}" if tenant else " of every tenant")
    if older_than is not None:
        what += f" that finished more than {older_than} ago"
    if not sys.stdin.isatty():
        raise UsageError(f"this deletes {what} for good; say --yes where nobody can be asked")
    if not typer.confirm(f"Delete {what} for good?", err=True):
        raise UsageError("nothing was deleted")


def _tell(purged: Purged, tenant: str | None) -> None:
    say(f"deleted {purged.messages} messages and {purged.revisions} revisions of agents")
    if purged.unfinished:
        say(f"{purged.unfinished} messages of tenant {tenant} are unfinished and stay: run it again later")
    if purged.finished:
        say(f"{purged.finished} finished messages of tenant {tenant} are newer than that and stay")
