"""Settings, read from ``KONSTRUCT_*`` environment variables.

One class for every process: a process reads the settings it needs and refuses names that none knows,
so that a misspelt variable is an error at start and not a default in production.
``docs/configuration.md`` documents every field; a test holds the two together.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from shared.credentials import Encrypts, Key, Second, Token, is_secret
from shared.errors import ConfigurationError as ConfigurationError  # noqa: PLC0414 (others import it from here)
from shared.levels import LogFormat, LogLevel
from shared.limits import MAX_REPLY_TOKENS, MAX_TIMEOUT_S, Names, Seconds, Timeout
from shared.names import DNS_LABEL
from shared.secret_files import FILE_SUFFIX, secret_of

PREFIX = "KONSTRUCT_"
"""Prefix of every variable."""

_SERVICE_LINK = re.compile(r"_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$")
"""Variables that Kubernetes adds to a pod for each Service of its namespace (service links)."""


class Settings(BaseModel):
    """Every setting of Konstruct, in the order of ``docs/configuration.md``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    # --- llm-pool: reaching it ---
    llm_pool_url: str = "http://localhost:8004"
    """Where workers and the CLI reach the llm-pool."""

    llm_pool_replicas_url: str | None = None
    """The same by a name that resolves to all replicas; the CLI adds up their metrics. None: there is one."""

    llm_pool_ca_file: Annotated[Path | None, Encrypts("llm_pool_url", "https://")] = None
    """Authorities that the pool's certificate is checked against (PEM); none: the system's."""

    llm_pool_token: Token | None = None
    """Bearer token that the pool demands on /complete and its callers send; none: no check."""

    llm_pool_second_token: Annotated[Token | None, Second("llm_pool_token")] = None
    """Another token that the pool accepts and nobody sends: the next or the last one, while it is changed."""

    # --- llm-pool: serving ---
    llm_pool_listen: str = "0.0.0.0:8004"
    """Address and port the pool listens on."""

    llm_pool_cert_file: Path | None = None
    """Certificate and chain that the pool serves HTTPS by (PEM), read again when it changes; none: HTTP."""

    llm_pool_key_file: Annotated[Path | None, Second("llm_pool_cert_file")] = None
    """Key of that certificate (PEM); none: it is in the same file."""

    llm_pool_workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Processes that serve; limits and cooldowns of the pool are those of each process."""

    llm_pool_config: Path | None = None
    """LiteLLM configuration file (model_list, router_settings); none: groups from provider keys."""

    llm_pool_max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Completions under way at once; one more is answered 429."""

    llm_pool_max_body_bytes: Annotated[int, Field(ge=1024, le=67_108_864)] = 1_048_576
    """Largest request body; a larger one is answered 413."""

    llm_pool_timeout_s: Timeout = 110.0
    """Longest that one /complete may take, and the default of its ``timeout_s``."""

    llm_pool_attempt_timeout_s: Timeout = 30.0
    """Longest that one call to one deployment may take, while another one may still be asked."""

    llm_pool_ollama_timeout_s: Timeout = 50.0
    """The same of a call to Ollama, which may have to load the model first; kept for it while others hang."""

    llm_pool_cooldown_s: Seconds = 30.0
    """How long a failing deployment is left alone when it names no time itself."""

    llm_pool_allowed_fails: Annotated[int, Field(ge=0, le=10_000)] = 2
    """Failures in a minute, less the successes since, that a deployment may have before it cools down."""

    # --- llm-pool: the default groups, used when llm_pool_config is not set ---
    anthropic_model: str = "claude-sonnet-4-20250514"
    """Anthropic model in the group ``quality``."""

    anthropic_base_url: str | None = None
    """API base for Anthropic; none: Anthropic's own."""

    openai_model: str = "gpt-4o"
    """OpenAI model in the group ``quality``."""

    openai_base_url: str | None = None
    """API base for OpenAI; none: OpenAI's own."""

    ollama_model: str = "qwen3:8b"
    """Ollama model in the group ``fast``."""

    # --- senders and workers ---
    tenant_queued: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Messages of a tenant that wait in Redis for a worker; its others wait their turn in PostgreSQL."""

    tenant_backlog: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Messages of a tenant that may wait their turn; one more is refused when it is submitted."""

    # --- worker ---
    database_url: SecretStr | None = None
    """PostgreSQL, as the service role: ``postgresql://user:password@host:5432/konstruct``."""

    system_database_url: SecretStr | None = None
    """The same database as the system role, which may only call the cross-tenant functions."""

    redis_url: SecretStr = SecretStr("redis://localhost:6379/0")
    """Redis: Celery's broker and result backend."""

    redis_ca_file: Annotated[Path | None, Encrypts("redis_url", "rediss://")] = None
    """Authorities that Redis's certificate is checked against (PEM); none: the system's."""

    redis_cert_file: Annotated[Path | None, Encrypts("redis_url", "rediss://")] = None
    """Certificate by which Redis knows this client (PEM); none: by its password alone."""

    redis_key_file: Annotated[Path | None, Second("redis_cert_file")] = None
    """Key of that certificate (PEM); none: it is in the same file."""

    payload_key: Key | None = None
    """Signs what senders and workers queue, and workers refuse the rest; none: they take what is in Redis."""

    payload_second_key: Annotated[Key | None, Second("payload_key")] = None
    """Another key that workers take and nobody signs with: the next or the last one, while it is changed."""

    payload_unsigned: bool = False
    """Take unsigned deliveries in spite of a key: only while senders without one are given it."""

    agents_dir: Path | None = None
    """Folder of Agent manifests to serve (local use); none: the Agents of the cluster."""

    worker_concurrency: Annotated[int, Field(ge=1, le=512)] = 32
    """Messages a worker answers at once (threads)."""

    worker_listen: str | None = None
    """Address and port of the worker's /metrics, /healthz and /readyz; none: not served."""

    message_deadline_s: Annotated[float, Field(ge=1, le=MAX_TIMEOUT_S)] = 120.0
    """Longest that answering one message may take before an apology is recorded."""

    lease_s: Annotated[float, Field(ge=1, le=3600)] = 5.0
    """Silence after which a worker's claim on a message is void."""

    drain_s: Seconds = 10.0
    """Time after SIGTERM in which messages under way may still finish before they are handed back."""

    quarantine_after_deaths: Annotated[int, Field(ge=1, le=100)] = 2
    """Times a message may be under way when its worker dies before it is tried in a process of its own."""

    max_errors: Annotated[int, Field(ge=1, le=100)] = 5
    """Times a fault of the worker itself may interrupt a message before it is recorded as failed."""

    keep_days: Annotated[float, Field(ge=0, le=36_500)] = 0
    """Days that a finished message is kept, with its reply; 0: until somebody purges it."""

    history_token_budget: Annotated[int, Field(ge=0, le=100_000)] = 4000
    """Tokens of earlier conversation in a prompt, by estimate; 0: none."""

    reply_max_tokens: Annotated[int, Field(ge=1, le=MAX_REPLY_TOKENS)] = 1024
    """Longest reply that is asked for, in tokens."""

    # --- in a cluster: worker and operator ---
    kubeconfig: Path | None = None
    """Way to the Kubernetes API; none: the Pod's own ServiceAccount."""

    watch_namespaces: Names = ()
    """Namespaces whose Agents are served, comma separated; none: all namespaces."""

    release: Annotated[str, Field(pattern=DNS_LABEL, max_length=63)] = "konstruct"
    """Helm release that the process belongs to; an operator waits for the workers of its own."""

    pod_name: str | None = None
    """Name of the Pod; names the worker's Lease and the operator in the namespaces that it claims."""

    pod_namespace: str | None = None
    """Namespace of the Pod and of the workers' Leases."""

    pod_uid: str | None = None
    """UID of the Pod, which owns the worker's Lease; none: nobody owns it."""

    worker_lease_s: Annotated[int, Field(ge=2, le=3600)] = 30
    """Seconds without the Kubernetes API after which a worker takes no messages; no less for the operator."""

    # --- operator ---
    operator_role: str | None = None
    """ClusterRole (or Role in each watched namespace) of the operator; its claims go when that goes."""

    operator_listen: str = "0.0.0.0:8006"
    """Address and port of the operator's /metrics, /healthz and /readyz."""

    # --- migrations ---
    migration_database_url: SecretStr | None = None
    """The database as the role that owns the schema; only `konstruct-migrate` uses it."""

    # --- every process: logs and traces ---
    log_format: LogFormat = LogFormat.AUTO
    """``json``, ``console`` (for people), or ``auto``: console on a terminal, json elsewhere."""

    log_level: LogLevel = LogLevel.INFO
    """``debug``, ``info``, ``warning`` or ``error``; info has a line for each message and completion."""

    tracing: bool = False
    """Send traces, to where the standard ``OTEL_EXPORTER_OTLP_*`` variables say."""

    tracing_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of traces that is kept, decided where a trace begins."""

    tracing_content: bool = False
    """Put what was asked and answered into traces; off, no text of anybody's is in them."""

    def __repr__(self) -> str:
        """Name the set fields only; a URL may hold a password."""
        return f"Settings({', '.join(sorted(self.model_fields_set))})"

    __str__ = __repr__


SECRETS = tuple(name for name, field in Settings.model_fields.items() if is_secret(field.annotation))
"""Settings that may come from a file: ``KONSTRUCT_<NAME>_FILE`` names it instead of ``KONSTRUCT_<NAME>``."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ` (default: the process's environment).

    Raises:
        ConfigurationError: a variable with the prefix is unknown, a value is invalid, or a secret's file
            cannot be used. The message names the variable and what it should be; it never repeats a value.
    """
    environ = os.environ if environ is None else environ
    # An empty variable is an unset one, as compose files write it.
    given = {name.upper(): value for name, value in environ.items() if name.upper().startswith(PREFIX)}
    files = {PREFIX + field.upper() + FILE_SUFFIX: field for field in SECRETS}
    known = {PREFIX + field.upper(): field for field in Settings.model_fields} | files
    unknown = [name for name in given if name not in known and not _SERVICE_LINK.search(name)]
    if unknown:
        raise ConfigurationError(_unknown_message(unknown, list(known)))
    fields = known.keys() - files.keys()
    values = {known[name]: value for name, value in given.items() if value and name in fields}
    values |= {field: value for field in SECRETS if (value := secret_of(given, PREFIX + field.upper()))}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = []
        for item in error.errors(include_input=False, include_url=False):
            name = PREFIX + "_".join(str(part) for part in item["loc"]).upper()
            lines.append(f"{name + FILE_SUFFIX if given.get(name + FILE_SUFFIX) else name}: {item['msg']}")
        raise ConfigurationError("; ".join(lines)) from None


def _unknown_message(unknown: list[str], known: list[str]) -> str:
    parts = []
    for name in sorted(unknown):
        # Compared without the prefix, which makes all of them look alike.
        bare = [one.removeprefix(PREFIX) for one in known]
        close = difflib.get_close_matches(name.removeprefix(PREFIX), bare, n=1)
        hint = f" (did you mean {PREFIX}{close[0]}?)" if close else ""
        parts.append(f"{name} is not a setting{hint}")
    return "; ".join(parts) + ". docs/configuration.md lists the settings."
