"""No object of ours shows a secret when it is printed, as a debugger, a log call or a traceback would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.canaries import LEAK, SECRETS, found_in
from tests.support.providers_pool import ANTHROPIC_KEY, OPENAI_KEY
from tests.support.stack_command import environment
from tests.support.traced import POOL_TOKEN

ROOT = Path(__file__).parents[2]


def test_nothing_that_holds_a_secret_shows_it(tmp_path: Path) -> None:
    url = f"postgresql://app:{LEAK}@127.0.0.1:1/konstruct"
    holding = environment(
        KONSTRUCT_DATABASE_URL=url,
        KONSTRUCT_SYSTEM_DATABASE_URL=url,
        KONSTRUCT_MIGRATION_DATABASE_URL=url,
        KONSTRUCT_REDIS_URL=f"redis://:{LEAK}@127.0.0.1:1/0",
        KONSTRUCT_LLM_POOL_TOKEN=POOL_TOKEN,
        KONSTRUCT_LLM_POOL_SECOND_TOKEN=f"{POOL_TOKEN}-2",
        KONSTRUCT_AGENTS_DIR=str(tmp_path),
        ANTHROPIC_API_KEY=ANTHROPIC_KEY,
        OPENAI_API_KEY=OPENAI_KEY,
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.holders"],
        env=holding,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    told = json.loads(done.stdout)
    assert set(told["kinds"]) >= {"Settings", "Runtime", "Runner", "Deployment", "Login"}, told["kinds"]
    assert len(told["said"]) > 30
    assert [words for words in told["said"] if found_in(words, SECRETS)] == []
    assert "***" in str(told["said"])  # where SQLAlchemy would have shown it
