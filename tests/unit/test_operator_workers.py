"""What Leases prove: every doubt counts against it."""

from __future__ import annotations

import time
from dataclasses import replace

from konstruct_operator.proofs import Proofs
from konstruct_operator.status import Active
from konstruct_operator.workers import Sync, WorkerHealth, Workers
from shared.kube.leases import Refusal, WorkerLease, WorkerState
from shared.kube.objects import ConditionReason

ADA = ("acme", "ada")


def lease(
    name: str = "w1", renewed: str = "1", uid: str = "u", holder: str | None = None, **state: object
) -> WorkerLease:
    return WorkerLease(
        name=name,
        uid=uid,
        holder=name if holder is None else holder,
        duration_s=30,
        renewed=renewed,
        state=WorkerState.model_validate(state),
    )


def all_known() -> Workers:
    """No worker, and none that could be missing from 0 on."""
    made = Workers(lease_s=30)
    made.replaced([], -30)
    return made


def verdict(workers: Workers, version: int | None = 10, now: float = 0.0) -> Sync:
    return workers.verdict(ADA, "r1", version, now)


def test_all_have_to_be_past_the_write() -> None:
    workers = all_known()
    assert verdict(workers).reason is ConditionReason.NO_WORKERS
    workers.put(lease("w1", seen={"acme": 10}), 0)
    assert verdict(workers).done
    workers.put(lease("w2", seen={"*": 9}), 0)
    assert verdict(workers).reason is ConditionReason.WORKERS_PENDING
    assert "1/2 workers" in verdict(workers).message
    workers.put(lease("w2", seen={"*": 10}), 0)
    assert verdict(workers).message == "2/2 workers"
    assert not verdict(workers, version=None).done  # nothing is written yet
    workers.put(lease("w3", seen={"other": 99}), 0)  # does not watch it
    assert not verdict(workers).done


def test_the_floor_is_true_only_when_every_worker_is_past_it() -> None:
    workers = all_known()
    assert workers.floor("acme", 0) is None
    workers.put(lease("w1", seen={"acme": 10}), 0)
    workers.put(lease("w2", seen={"*": 7}), 0)
    assert workers.floor("acme", 0) == 7
    workers.put(lease("w3"), 0)
    assert workers.floor("acme", 0) is None


def test_silence_is_measured_on_the_operators_clock() -> None:
    workers = all_known()
    workers.put(lease(seen={"*": 99}), 100)
    workers.put(lease(seen={"*": 99}), 120)  # seen again, not renewed
    assert verdict(workers, now=129).done
    assert verdict(workers, now=130).reason is ConditionReason.WORKER_SILENT
    assert workers.floor("acme", 130) is None
    workers.put(lease(seen={"*": 99}, renewed="2"), 131)
    assert verdict(workers, now=160).done


def test_a_vanished_lease_counts_until_it_would_have_expired() -> None:
    workers = all_known()
    workers.put(lease(seen={"*": 99}), 0)
    workers.put(lease("w2", seen={"*": 99}), 0)
    workers.deleted("w2", 5)
    assert workers.health(5) == {WorkerHealth.ALIVE: 1, WorkerHealth.SILENT: 1}
    assert verdict(workers, now=29).reason is ConditionReason.WORKER_SILENT
    workers.put(lease(seen={"*": 99}, renewed="2"), 29)
    assert verdict(workers, now=30).message == "1/1 workers"


def test_a_list_without_a_lease_is_a_deletion() -> None:
    workers = all_known()
    workers.put(lease("w1", seen={"*": 99}), 0)
    workers.replaced([lease("w2", seen={"*": 99})], 1)
    assert verdict(workers, now=1).reason is ConditionReason.WORKER_SILENT


def test_after_a_list_whoever_vanished_before_it_may_still_answer() -> None:
    workers = Workers(lease_s=30)
    workers.put(lease(seen={"*": 99}), 0)
    assert not verdict(workers).done  # nothing was listed yet
    workers.replaced([lease(seen={"*": 99})], 10)
    assert "1/1 workers; the workers were listed anew" in verdict(workers, now=29).message
    assert workers.floor("acme", 29) is None
    workers.put(lease(seen={"*": 99}, renewed="2"), 30)
    assert not verdict(workers, now=39.9).done
    assert (verdict(workers, now=40).done, workers.floor("acme", 40)) == (True, 99)
    workers.replaced([lease(seen={"*": 99}, renewed="3")], 50)  # the watch had broken
    assert (verdict(workers, now=79).done, verdict(workers, now=80).done) == (False, False)
    workers.put(lease(seen={"*": 99}, renewed="4"), 79)
    assert verdict(workers, now=80).done


def test_a_proof_is_of_one_agent_one_tenant_and_one_revision() -> None:
    proofs = Proofs(lambda _: None, lease_s=0)
    proofs.workers.replaced([], 0)
    proofs.workers.put(lease(seen={"*": 99}), time.monotonic())
    active = Active("r1", "acme", None, None)
    proofs.expect(ADA, "uid-1", active, 10)
    assert proofs.verdict(ADA, "uid-1", active).done
    for uid, other in (
        ("uid-2", active),  # made anew under the old name
        ("uid-1", replace(active, tenant_id="globex")),
        ("uid-1", replace(active, revision="r2")),
        ("uid-1", None),
    ):
        assert not proofs.verdict(ADA, uid, other).done


def test_a_farewell_is_believed() -> None:
    workers = all_known()
    workers.put(lease("w1", seen={"*": 99}), 0)
    workers.put(lease("w2", seen={"*": 99}), 0)
    workers.put(lease("w2", holder=""), 1)
    workers.deleted("w2", 2)
    assert verdict(workers, now=2).message == "1/1 workers"


def test_refusals() -> None:
    workers = all_known()
    mine = Refusal(namespace="acme", name="ada", revision="r1", reason="schema 2")
    old = mine.model_copy(update={"revision": "r0"})
    workers.put(lease(seen={"*": 99}, refused=(old,), refused_total=1), 0)
    assert verdict(workers).done
    workers.put(lease(seen={"*": 99}, refused=(mine,), refused_total=1), 0)
    assert verdict(workers).reason is ConditionReason.WORKER_REFUSED
    workers.put(lease(seen={"*": 99}, refused=(old,), refused_total=2), 0)
    assert verdict(workers).reason is ConditionReason.WORKERS_PENDING  # it may be the one without room


def test_progress_changes_no_mood() -> None:
    workers = all_known()
    workers.put(lease(seen={"*": 1}), 0)
    mood = workers.mood(0)
    workers.put(lease(seen={"*": 2}, renewed="2"), 1)
    assert workers.mood(1) == mood
    assert workers.mood(40) != mood
