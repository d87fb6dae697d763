"""What LiteLLM's configuration file may say, and what becomes of it here; docs/llm-pool.md has the same."""

from __future__ import annotations

SECTIONS = ("model_list", "router_settings", "litellm_settings", "environment_variables")
"""Sections that take effect."""

SECTIONS_WITHOUT_EFFECT = {
    "general_settings": "the pool has its own settings, for instance KONSTRUCT_LLM_POOL_TOKEN",
    "agent_list": "agents are Konstruct's",
    "assistant_settings": "the pool serves chat completions alone",
    "callback_settings": "the pool has metrics and traces of its own",
    "default_vertex_config": "the pool passes no requests through to providers",
    "files_settings": "the pool serves chat completions alone",
    "finetune_settings": "the pool serves chat completions alone",
    "mcp_aliases": "the pool offers no tools",
    "mcp_servers": "the pool offers no tools",
    "mcp_tools": "the pool offers no tools",
    "prompts": "prompts are those of Agents",
    "search_tools": "the pool offers no tools",
    "vector_store_registry": "the pool serves chat completions alone",
    "worker_registry": "the pool starts its own processes: KONSTRUCT_LLM_POOL_WORKERS",
}
"""Sections of LiteLLM's proxy that are accepted with a warning, and why."""

SECTIONS_REFUSED = {
    "guardrails": (
        "guardrails check what is asked and answered, and the pool would answer without them; take the "
        "section out if that is meant, or name LiteLLM's proxy, which has them, as a deployment's api_base"
    ),
    "policies": "they apply guardrails, which the pool does not run; take them out, if that is meant",
    "policy_attachments": "they apply guardrails, which the pool does not run; take them out, if meant",
    "credential_list": "put the credentials into each deployment's litellm_params, as os.environ/NAME",
    "include": "one file is read; put what the others say into it",
}
"""Sections of LiteLLM's proxy that cannot be ignored without harm: why, and what to do."""

FALLBACK_KEYS = ("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
"""Settings that LiteLLM takes in ``router_settings`` and in ``litellm_settings``."""

ROUTER_KEYS = (
    *FALLBACK_KEYS,
    "model_group_alias",
    "max_fallbacks",
    "allowed_fails",
    "cooldown_time",
    "timeout",
    "routing_strategy",
)
"""Settings of ``router_settings`` that take effect."""

ROUTER_WITHOUT_EFFECT = {
    "num_retries": "a request asks each deployment once",
    "retry_after": "a request asks each deployment once",
    "retry_policy": "a request asks each deployment once",
    "model_group_retry_policy": "a request asks each deployment once",
    "allowed_fails_policy": "use allowed_fails",
    "disable_cooldowns": "use cooldown_time",
    "enable_pre_call_checks": "a prompt that is too long falls back when the provider says so",
    "stream_timeout": "replies are not streamed",
    "redis_host": "cooldowns are kept per process",
    "redis_port": "cooldowns are kept per process",
    "redis_password": "cooldowns are kept per process",
    "redis_url": "cooldowns are kept per process",
    "cache_responses": "replies are not cached",
    "set_verbose": "use KONSTRUCT settings for logs",
    "debug_level": "use KONSTRUCT settings for logs",
    "client_ttl": "connections are kept while they are used",
}
"""Settings of ``router_settings`` that are accepted with a warning, and why."""

LITELLM_KEYS = (*FALLBACK_KEYS, "request_timeout", "allowed_fails", "drop_params", "telemetry")
"""Settings of ``litellm_settings`` that take effect or are always so."""
