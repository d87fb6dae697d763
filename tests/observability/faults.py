"""What can be wrong with the running system, beside its providers, for as long as a block lasts."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.observability.stage import HOME, Stage
from tests.operator.operator_stage import operator_rbac

RUSH = 400
"""Completions, and as many messages, that come at once in a rush."""


@contextmanager
def an_edit(stage: Stage) -> Iterator[None]:
    """Edit an agent at the beginning: nothing is wrong with that."""
    stage.edit("Answer at length.")
    stage.synced()
    yield


@contextmanager
def a_rush(stage: Stage) -> Iterator[None]:
    """Send very much at once."""
    stage.load.rush(RUSH, RUSH)
    yield


@contextmanager
def a_stranger_and_a_killer(stage: Stage) -> Iterator[None]:
    """Have somebody without the key queue a message, one stranded, and one parked until somebody drops it."""
    stage.load.forge()
    stage.load.strand()
    poison = stage.load.poison()
    yield
    stage.load.drop(poison)


@contextmanager
def frozen_workers(stage: Stage) -> Iterator[None]:
    """Freeze every worker, and edit an agent meanwhile."""
    for worker in stage.workers:
        os.kill(worker.process.pid, signal.SIGSTOP)
    try:
        stage.edit("Answer at once.")
        yield
    finally:
        for worker in stage.workers:
            os.kill(worker.process.pid, signal.SIGCONT)


@contextmanager
def no_api(stage: Stage) -> Iterator[None]:
    """Stop the API server."""
    stage.cluster.cluster.stop_apiserver()
    try:
        yield
    finally:
        stage.cluster.cluster.start_apiserver()


@contextmanager
def no_rights(stage: Stage) -> Iterator[None]:
    """Take the operator's rights away, and edit an agent meanwhile."""
    plane = stage.cluster.cluster
    of_operator = "--selector=app.kubernetes.io/component=operator"
    plane.kubectl("delete", "clusterrolebindings,rolebindings", "--all-namespaces", of_operator)
    try:
        stage.edit("Answer in verse.")
        yield
    finally:
        plane.apply(operator_rbac(stage.cluster.helm, HOME, HOME, stage.cluster.watched))
