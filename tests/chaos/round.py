"""One round: a fault at a random moment under load, the time until all is as before, and what it did."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass

from shared.config import Settings
from tests.chaos.editing import Editor
from tests.chaos.rate import WINDOW_S, back_after, count
from tests.chaos.sender import RATE
from tests.chaos.stage import Stage
from tests.chaos.watching import Ended, Watch, accepted, told
from tests.chaos.words import asked, reply_of
from tests.support.waiting import eventually

STEADY_WITHIN_S = 90.0
"""Time in which a new sender's messages must be answered as fast as they come."""

BACK_WITHIN_S = 120.0
"""Time in which the rate must be back."""

FINISHED_WITHIN_S = Settings().message_deadline_s + 60
"""Time in which what was accepted must be finished once nothing new is sent: one message's, and some."""

SOONEST_S, LATEST_S = 1.0, 4.0
"""The fault comes at a random moment between these, counted from when the load is steady."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    id: str
    """Its name in tests."""

    says: str
    """What happens, for people."""

    strike: Callable[[Stage], AbstractContextManager[None]]
    """Makes it happen, and puts it right at the end of the block."""

    lasts_s: float = 0.0
    """Seconds that it lasts; 0: it happens, and what follows is the product's own affair."""

    apologies: bool = False
    """Whether no model could be asked meanwhile, so that an apology is an honest end."""

    edits: bool = False
    """Whether edits are held up by it, so that recovery includes that they are in effect again."""

    short: bool = False
    """Whether the short form of the suite has it."""


@dataclass(frozen=True)
class Outcome:
    """What a round found."""

    fault: str
    """Id of the fault."""
    accepted: int
    """Messages that were accepted."""
    answered: int
    """Those that a model answered."""
    apologised: int
    """Those that ended in an apology."""
    failed: int
    """Those that failed with a reason."""
    lost: int
    """Those that did not end."""
    twice: int
    """Those with a second reply, or whose reply changed."""
    mixed: int
    """Replies that were not made from their own tenant's prompt, text and revision."""
    asked_again: int
    """Messages that providers were asked for more than once; no promise, for information."""
    back_s: float
    """Seconds until the rate was back."""
    longest_s: float
    """Longest that a message took from being recorded to its end."""


def play(stage: Stage, fault: Fault, chance: random.Random) -> Outcome:
    """Play one round."""
    stage.forget_asked()
    stage.revive()
    stage.forget_cooldowns()
    with Watch(stage.database) as watch:
        with stage.sending(), Editor(stage.cluster) as editor:
            eventually(lambda: _steady(watch), within_s=STEADY_WITHIN_S, what="a steady rate")
            threading.Event().wait(chance.uniform(SOONEST_S, LATEST_S))
            began = time.time()
            rate = count(watch.finished(), began - WINDOW_S, began) / WINDOW_S
            with fault.strike(stage):
                threading.Event().wait(fault.lasts_s)
            since = time.time() if fault.lasts_s else began
            back_s = _wait_back(watch, min(rate, RATE), since)
            if fault.edits:
                edited = editor.edit_now()
                eventually(lambda: editor.in_effect(edited), within_s=BACK_WITHIN_S, what="an edit in effect")
                back_s = max(back_s, time.time() - since)
            assert stage.sender is not None
            assert stage.sender.exit_code() is None, "the sender ended"
        eventually(lambda: not watch.unfinished(), within_s=FINISHED_WITHIN_S, what="an end of every message")
        assert not (ended := stage.revive()), f"{ended} ended by itself"
        return _account(stage, fault, watch, editor, back_s)


def _steady(watch: Watch) -> bool:
    now = time.time()
    return count(watch.finished(), now - WINDOW_S, now) >= 0.9 * RATE * WINDOW_S


def _wait_back(watch: Watch, rate: float, since: float) -> float:
    # Up to half a second ago everything has been looked at.
    found = eventually(
        lambda: [
            back
            for back in [back_after(watch.finished(), rate, since, time.time() - 0.5)]
            if back is not None
        ],
        within_s=BACK_WITHIN_S,
        what="the rate of before",
    )
    return found[0]


def _account(stage: Stage, fault: Fault, watch: Watch, editor: Editor, back_s: float) -> Outcome:
    taken = accepted(stage.journal)
    ended = {key: one for key, one in watch.all().items() if key[1].startswith(stage.runs)}
    by_status = Counter(one.status for one in ended.values())
    again = {key for key, times in told(worker.log for worker in stage.workers.values()).items() if times > 1}
    requests = Counter(
        asked(json.dumps(body)) for stub in stage.providers.stubs.values() for body in stub.requests
    )
    return Outcome(
        fault=fault.id,
        accepted=len(taken),
        answered=by_status["answered"],
        apologised=by_status["apologised"],
        failed=by_status["failed"],
        lost=len(taken - ended.keys()) + watch.unfinished(),
        twice=len(again & ended.keys()) + len(watch.changed),
        mixed=sum(not _honest(one, editor) for one in ended.values()),
        asked_again=sum(times > 1 for times in requests.values()),
        back_s=round(back_s, 1),
        longest_s=round(max(one.finished - one.accepted for one in ended.values()), 1),
    )


def _honest(one: Ended, editor: Editor) -> bool:
    """Whether a reply is made from what it says, and from nobody else's."""
    edit = editor.edit_of(one.tenant, one.revision or "")
    if one.status != "answered":
        return bool(one.reason) and "[[" not in one.reply
    return edit is not None and bool(one.model) and one.reply == reply_of(edit, one.message_id)


def check(fault: Fault, found: Outcome) -> None:
    """Fail if a promise was broken."""
    said = f"{fault.says}: {asdict(found)}"
    assert (found.lost, found.twice, found.mixed, found.failed) == (0, 0, 0, 0), said
    assert found.apologised == 0 or fault.apologies, said
    assert found.accepted > 0, said
