"""Who may speak as which agent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from konstruct_operator.roster import Roster
from shared.kube.objects import AgentRef, ConditionReason

START = datetime(2026, 1, 1, tzinfo=UTC)


def roster(*agents: tuple[str, str, int], **tenants: str | None) -> Roster:
    made = Roster()
    for namespace, label in tenants.items():
        made.set_label(namespace, label)
    for namespace, name, second in agents:
        made.put((namespace, name), (START + timedelta(seconds=second), f"uid-{namespace}"))
    return made


def test_the_oldest_has_the_name() -> None:
    made = roster(("b", "ada", 2), ("a", "ada", 3), ("c", "ada", 1), a="acme", b="acme", c="globex")
    assert made.verdict(("b", "ada")).accepted
    assert made.verdict(("b", "ada")).rivals == (("a", "ada"),)
    verdict = made.verdict(("a", "ada"))
    assert (verdict.reason, verdict.rivals[0]) == (ConditionReason.NAME_TAKEN, ("b", "ada"))
    assert made.verdict(("c", "ada")).rivals == ()


def test_within_a_second_the_uid_decides() -> None:
    made = roster(("b", "ada", 1), ("a", "ada", 1), a="acme", b="acme")
    assert made.verdict(("a", "ada")).accepted
    assert not made.verdict(("b", "ada")).accepted


def test_labels_that_name_no_tenant() -> None:
    made = roster(("a", "ada", 1), ("b", "ada", 1), ("c", "ada", 1), a=None, b="Not_One", c="")
    assert made.verdict(("a", "ada")).reason is ConditionReason.NO_TENANT
    assert made.verdict(("b", "ada")).reason is ConditionReason.INVALID_TENANT
    assert made.verdict(("b", "ada")).label == "Not_One"
    assert made.verdict(("c", "ada")).reason is ConditionReason.NO_TENANT


def test_changes_name_whom_they_concern() -> None:
    made = roster(("a", "ada", 1), ("a", "eve", 1), ("b", "ada", 2), a="acme", b="globex")
    assert made.set_label("b", "acme") == {("a", "ada"), ("b", "ada")}
    assert made.set_label("b", "acme") == set()
    assert made.remove(("a", "ada")) == {("b", "ada")}
    assert made.verdict(("b", "ada")).rivals == ()
    assert made.forget_namespace("b") == {("b", "ada")}


agents = st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), agents, st.integers(0, 3)),
        st.tuples(st.just("remove"), agents, st.just(0)),
        st.tuples(st.just("label"), agents, st.integers(0, 2)),
    ),
    max_size=30,
)


@given(steps)
def test_whoever_is_concerned_is_named(taken: list[tuple[str, AgentRef, int]]) -> None:
    """After any history: one Agent of a name is served, and nobody's verdict changed unsaid."""
    made = roster(a="acme", b="acme", c="globex")
    for kind, ref, number in taken:
        before = {known: made.verdict(known) for known in made.agents()}
        if kind == "put":
            concerned = made.put(ref, (START + timedelta(seconds=number), f"uid-{ref}")) | {ref}
        elif kind == "remove":
            concerned = made.remove(ref) | {ref}
        else:
            concerned = made.set_label(ref[0], ("acme", "globex", None)[number])
        for known in made.agents():
            if known not in concerned:
                assert made.verdict(known) == before[known]
    served = [(made.verdict(ref).tenant_id, ref[1]) for ref in made.agents() if made.verdict(ref).accepted]
    claimed = {(made.tenant(ref[0]), ref[1]) for ref in made.agents() if made.tenant(ref[0])}
    assert len(served) == len(set(served))
    assert set(served) == claimed
