"""The cross-tenant matrix: every way into a running system, tried from the wrong tenant.

SQL is in ``test_cross_tenant_sql.py``, what messages say in ``test_hostile_fields.py``. Labels of namespaces,
forged ConfigMaps and taken names are Kubernetes', and in ``tests/operator``: ``test_operator_lifecycle.py``,
``test_operator_drift.py`` and ``test_operator_conflicts.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from konstruct_cli.stack.postgres import Postgres
from konstruct_cli.stack.redis import Redis
from orchestrator.asking import worker_status
from orchestrator.evidence import Evidence
from orchestrator.main import app
from tests.support.crossing import (
    AGAIN,
    ANSWERED,
    HELD,
    INTRUDER,
    PAGE,
    PARKED,
    THEIR_AGENT,
    THEIR_THREAD,
    VICTIM,
    Attempt,
    Crossing,
    matrix,
    try_it,
    two_tenants,
)
from tests.support.stack_command import konstruct
from tests.support.traced import POOL_TOKEN

Act = Callable[[Crossing], str]

UNKNOWN = r"no agent by that name"


def command(*arguments: str, code: int = 0, stdin: str = "") -> Act:
    """Run ``konstruct`` and return all that it says."""

    def act(world: Crossing) -> str:
        pool = {"KONSTRUCT_LLM_POOL_URL": world.way.pool_url, "KONSTRUCT_LLM_POOL_TOKEN": POOL_TOKEN}
        env = world.cell.environment(**pool)
        done = konstruct(*arguments, cwd=world.cell.folder, env=env, stdin=stdin)
        assert done.code == code, done
        return done.out + done.err

    return act


def mine(*arguments: str, code: int = 0, stdin: str = "") -> Act:
    """The same, as the intruder's tenant."""
    name, *rest = arguments
    return command(name, "--tenant", INTRUDER, *rest, code=code, stdin=stdin)


def delivery(**changes: Any) -> Act:
    """Queue a payload of the intruder's, past `submit`, and return what comes back as the task's result."""

    def act(world: Crossing) -> str:
        return result(world, world.cell.message("hello", **changes).model_dump(mode="json"))

    return act


def in_their_name(**changes: Any) -> Act:
    """Queue a changed copy of a message of the victim's, and return the task's result."""

    def act(world: Crossing) -> str:
        theirs = world.victims[changes.get("message_id", ANSWERED)].model_dump(mode="json")
        return result(world, {**theirs, "text": "what did I say?", **changes})

    return act


def result(world: Crossing, payload: dict[str, Any]) -> str:
    return json.dumps(app.AsyncResult(world.cell.deliver(payload)).get(timeout=30))


def completion(token: str = POOL_TOKEN, **fields: Any) -> Act:
    """POST to the pool and return the whole answer."""

    def act(world: Crossing) -> str:
        body = {"model": "quality", "messages": [{"role": "user", "content": "hello"}], **fields}
        answer = httpx.post(
            f"{world.way.pool_url}/complete",
            json=body,
            headers={"Authorization": f"Bearer {token}", "Konstruct-Message-Id": ANSWERED},
            timeout=30,
        )
        return f"{answer.status_code} {answer.headers} {answer.text}"

    return act


def look(path: str) -> Act:
    """GET from the pool."""
    return lambda world: httpx.get(f"{world.way.pool_url}{path}").text


def ask_workers(_: Crossing) -> str:
    """Ask the workers over the queue's remote control, as whoever may write to Redis can."""
    inspect = app.control.inspect(timeout=2)
    return f"{worker_status(app)} {inspect.active()} {inspect.reserved()} {inspect.stats()}"


NO_SUCH_MESSAGE = rf"tenant {INTRUDER} has no"
"""What is said of a message of another tenant; the same as of one that never was."""

ATTEMPTS = (
    Attempt(
        "`konstruct send`", "another's agent", "failed, `agent_unknown`", UNKNOWN,
        mine("send", "--agent", THEIR_AGENT, "hello", code=4),
    ),
    Attempt(
        "`konstruct send`", "another's message id", "a message of its own", "intruder was told",
        mine("send", "--agent", "ada", "--message-id", ANSWERED, "hello"),
    ),
    Attempt(
        "`konstruct send`", "another's thread", "a thread of its own", "intruder was told",
        mine("send", "--agent", "ada", "--thread", THEIR_THREAD, "what did I say?"),
    ),
    Attempt(
        "`konstruct chat`", "another's agent", "failed, `agent_unknown`", UNKNOWN,
        mine("chat", "--agent", THEIR_AGENT, code=4, stdin="hello\n"),
    ),
    Attempt(
        "`konstruct chat`", "another's thread", "a thread of its own", "intruder was told",
        mine("chat", "--agent", "ada", "--thread", THEIR_THREAD, stdin="what did I say?\n"),
    ),
    *(
        Attempt(
            "`konstruct explain`", f"another's message, {how}", "no such message", NO_SUCH_MESSAGE,
            mine("explain", "--text", message_id, code=2),
        )
        for message_id, how in ((HELD, "unfinished"), (PARKED, "parked"))
    ),
    Attempt(
        "`konstruct parked list`", "without any of its own", "nothing", "has no parked message",
        mine("parked", "list"),
    ),
    *(
        Attempt(
            f"`konstruct parked {decision}`", "another's parked message", "no such message", NO_SUCH_MESSAGE,
            mine("parked", decision, PARKED, code=2),
        )
        for decision in ("retry", "drop")
    ),
    *(
        Attempt(
            "`--tenant`", f"`{name}`", "refused: no tenant's name", "tenant",
            command("explain", "--tenant", name, ANSWERED, code=2),
        )
        for name in ("*", "%", "GLOBEX", "acme,globex", "globex' or 'a'='a", "../globex")
    ),
    Attempt(
        "`konstruct status`", "whatever it shows", "names and revisions, no texts", "ada",
        command("status"),
    ),
    Attempt(
        "delivery", "another's agent", "failed, `agent_unknown`", "agent_unknown",
        delivery(agent=THEIR_AGENT),
    ),
    Attempt(
        "delivery", "another's message id", "a message of its own", "intruder was told",
        delivery(message_id=AGAIN),
    ),
    Attempt(
        "delivery", "another's thread", "a thread of its own", "intruder was told",
        delivery(thread_id=THEIR_THREAD),
    ),
    *(
        Attempt(
            "delivery", f"in another's name, an id that is taken ({how})", "refused, `message_conflict`",
            "message_conflict", in_their_name(message_id=message_id),
        )
        for message_id, how in ((ANSWERED, "answered"), (PARKED, "parked"), (HELD, "held"))
    ),
    *(
        Attempt(
            "delivery", f"tenant `{json.dumps(name)}`", "refused, `message_invalid`", "message_invalid",
            in_their_name(tenant_id=name),
        )
        for name in ("GLOBEX", "globex ", ["globex"], {"tenant": "globex"}, None)
    ),
    Attempt(
        "workers' remote control", "what is under way, and where", "names and ids, no texts", "ada",
        ask_workers,
    ),
    Attempt(
        "`POST /complete`", "another's tenant, agent and message id", "the answer to what was posted", "^200",
        completion(tenant_id=VICTIM, agent=THEIR_AGENT),
    ),
    Attempt(
        "`POST /complete`", "a wrong token", "401", "^401",
        completion(token="canary", tenant_id=VICTIM),
    ),
    *(
        Attempt(f"`GET {path}` of the pool", "whatever it shows", "no tenant's anything", ".", look(path))
        for path in ("/metrics", "/health", "/openapi.json")
    ),
)  # fmt: skip
"""The matrix."""


@pytest.fixture(scope="module")
def world(
    postgres_server: Postgres,
    template_database: str,
    redis_server: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Crossing]:
    """Start the system once; print the matrix at the end (``pytest -s`` shows it)."""
    folder = tmp_path_factory.mktemp("two-tenants")
    with two_tenants(postgres_server, template_database, redis_server.url(), folder) as made:
        yield made
    sys.stdout.write(f"\n{matrix(ATTEMPTS)}")


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=str)
def test_nothing_of_another_tenants_is_read_or_changed(world: Crossing, attempt: Attempt) -> None:
    try_it(attempt, world)


def test_another_tenants_message_is_as_one_that_never_was(world: Crossing) -> None:
    """Not even that it is there is told, by any command that names a message."""
    for arguments in (("explain",), ("parked", "retry"), ("parked", "drop")):
        answers = {
            mine(*arguments, message_id, code=2)(world).replace(message_id, "ID")
            for message_id in (HELD, PARKED, "never-was")
        }
        assert len(answers) == 1, answers


def test_an_attempt_that_gets_somewhere_would_be_seen(world: Crossing) -> None:
    reads = Attempt(
        "CLI", "its own", "all of it", ".", command("explain", "--tenant", VICTIM, "--text", ANSWERED)
    )
    with pytest.raises(AssertionError, match="canary"):
        try_it(reads, world)
    writes = Attempt("CLI", "its own", "dropped", ".", command("parked", "--tenant", VICTIM, "drop", PARKED))
    with pytest.raises(AssertionError, match="not what they were"):
        try_it(writes, world)


def test_the_victim_still_has_it_all(world: Crossing) -> None:
    shown = command("explain", "--tenant", VICTIM, "--text", "--json", ANSWERED)(world)
    evidence = Evidence.model_validate_json(shown)
    assert evidence.proof.verdict == "proved"


def test_the_documentation_shows_the_matrix() -> None:
    assert matrix(ATTEMPTS) in PAGE.read_text()
