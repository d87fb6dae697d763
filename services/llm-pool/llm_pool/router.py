"""The groups and their deployments, held by LiteLLM's Router, and the choice among them.

The Router checks the model list, knows the providers and registers own prices. Which deployment is
asked, and how often, is decided here and in `dispatch`, because its own retry loop may ask one
deployment twice and another not at all (docs/adr/0004).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import aiohttp

from llm_pool.cooldown import Cooldowns
from llm_pool.litellm_setup import litellm
from llm_pool.pool_config import DeploymentSpec, PoolConfig
from llm_pool.pricing import PRICE_PARAMS, price_of
from llm_pool.providers.base import Caller, Deployment
from llm_pool.providers.direct import PROTOCOLS, DirectCaller, speaks
from llm_pool.providers.generic import GenericCaller
from shared.config import ConfigurationError
from shared.contract import FallbackReason, GroupHealth

_ROUTING_PARAMS = frozenset(
    {
        "order", "weight", "rpm", "tpm", "timeout", "request_timeout", "stream_timeout", "cooldown_time",
        "num_retries", "max_retries", "max_parallel_requests", "tags",
    }
)  # fmt: skip
"""LiteLLM parameters that concern the choice of a deployment, not the call."""


class PoolRouter:
    """Groups, deployments, fallbacks."""

    def __init__(
        self, config: PoolConfig, session: aiohttp.ClientSession, environ: Mapping[str, str]
    ) -> None:
        """Build every usable deployment.

        Args:
            config: What to serve.
            session: Connections for the deployments; closed by its owner.
            environ: Where providers' own variables are looked up.

        Raises:
            ConfigurationError: LiteLLM refuses a deployment.
        """
        self._config = config
        self._session = session
        self._environ = environ
        self.groups: dict[str, tuple[Deployment, ...]] = {}
        """Usable deployments, by group, in the order given."""
        self._missing: dict[str, tuple[str, ...]] = {}
        usable = [(spec, self._missing_for(spec)) for spec in config.deployments]
        for group in config.groups:
            wanted = [name for spec, missing in usable if spec.group == group for name in missing]
            self._missing[group] = tuple(dict.fromkeys(wanted))
        specs = {f"konstruct-{number}": spec for number, (spec, missing) in enumerate(usable) if not missing}
        self.litellm_router = self._make_litellm_router(specs)
        """LiteLLM's Router; its model list holds the keys."""
        self._build(specs)

    def close(self) -> None:
        """Take the Router out of LiteLLM's global lists."""
        self.litellm_router.discard()

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """All usable deployments."""
        return tuple(deployment for members in self.groups.values() for deployment in members)

    @property
    def fallback_pairs(self) -> set[tuple[str, str]]:
        """Every pair of groups of which the second may be asked when the first failed."""
        return {
            (group, name)
            for group in self.groups
            for reason in FallbackReason
            for name in self.fallbacks_of(group, reason)
        }

    @property
    def max_fallbacks(self) -> int:
        """How many other groups one request may ask."""
        return self._config.max_fallbacks

    @property
    def deciding_reasons(self) -> tuple[FallbackReason, ...]:
        """Reasons for a group's failure that decide which groups come next; the first stands for the rest."""
        reasons = [FallbackReason.TIMEOUT]
        if self._config.context_window_fallbacks:
            reasons.append(FallbackReason.CONTEXT_WINDOW)
        if self._config.content_policy_fallbacks:
            reasons.append(FallbackReason.CONTENT_POLICY)
        return tuple(reasons)

    def resolve(self, name: str) -> str | None:
        """Return the group called `name`, which may be an alias; none if there is none."""
        name = self._config.aliases.get(name, name)
        return name if name in self.groups else None

    def fallbacks_of(self, group: str, reason: FallbackReason) -> tuple[str, ...]:
        """Groups to ask next when `group` failed for `reason`, in order."""
        special: dict[str, tuple[str, ...]] = {}
        if reason is FallbackReason.CONTEXT_WINDOW:
            special = self._config.context_window_fallbacks
        elif reason is FallbackReason.CONTENT_POLICY:
            special = self._config.content_policy_fallbacks
        general = {"*": self._config.default_fallbacks, **self._config.fallbacks}
        # An empty list is an answer as well: nobody.
        chosen = special[group] if group in special else general.get(group, general["*"])
        return tuple(name for name in chosen if name != group)

    def pick(self, group: str, tried: set[str], cooldowns: Cooldowns) -> Deployment | None:
        """Choose the deployment of `group` to ask next; none when every one is tried, cooling or on trial.

        The lowest ``order`` first; equals by ``weight``, ``rpm`` or ``tpm``, else at random.
        """
        open_ = [d for d in self.groups[group] if d.name not in tried and cooldowns.may_ask(d.name)]
        if len(open_) < 2:
            return open_[0] if open_ else None
        lowest = min(deployment.order for deployment in open_)
        first = [deployment for deployment in open_ if deployment.order == lowest]
        if len(first) == 1:
            return first[0]
        weights = [deployment.weight for deployment in first]
        return random.choices(first, weights)[0] if sum(weights) > 0 else random.choice(first)  # noqa: S311 - no secret

    def health(self, cooldowns: Cooldowns) -> list[GroupHealth]:
        """Describe every group."""
        return [
            GroupHealth(
                name=group,
                configured=bool(members),
                deployments=[deployment.name for deployment in members],
                cooling=[d.name for d in members if cooldowns.is_cooling(d.name)],
                missing=list(self._missing[group]),
                falls_back_to=list(self.fallbacks_of(group, FallbackReason.UNAVAILABLE)),
            )
            for group, members in self.groups.items()
        ]

    def _missing_for(self, spec: DeploymentSpec) -> tuple[str, ...]:
        if spec.missing:
            return spec.missing
        provider = _provider_of(spec)[1]
        protocol = PROTOCOLS.get(provider)
        own_address = "api_base" in spec.params or "base_url" in spec.params
        if protocol is None or not protocol.needs_key or own_address or spec.params.get("api_key"):
            return ()
        return (
            () if any(self._environ.get(name) for name in protocol.key_variables) else protocol.key_variables
        )

    def _make_litellm_router(self, specs: dict[str, DeploymentSpec]) -> Any:
        model_list = [
            {
                "model_name": spec.group,
                "litellm_params": spec.params,
                "model_info": {**spec.model_info, "id": key},
            }
            for key, spec in specs.items()
        ]
        for spec in specs.values():
            if spec.params["model"].startswith("ollama"):
                # Unlisted, it would make the Router ask an Ollama server about it, at length.
                litellm.model_cost.setdefault(spec.params["model"], {"mode": "chat"})
        usable = {spec.group for spec in specs.values()}
        try:
            return litellm.Router(
                model_list=model_list,
                fallbacks=[
                    {group: list(names)} for group, names in self._config.fallbacks.items() if group in usable
                ],
                num_retries=0,
                disable_cooldowns=True,
            )
        except Exception as error:  # noqa: BLE001 (LiteLLM's message may quote parameters; its type says enough)
            raise ConfigurationError(f"LiteLLM refuses the model list: {type(error).__name__}") from None

    def _build(self, specs: dict[str, DeploymentSpec]) -> None:
        seen: dict[str, int] = {}
        for group in self._config.groups:
            members = []
            for record in self.litellm_router.get_model_list(model_name=group) or []:
                key = record["model_info"]["id"]
                name = specs[key].params["model"]
                seen[name] = seen.get(name, 0) + 1
                unique = name if seen[name] == 1 else f"{name}#{seen[name]}"
                members.append(self._deployment(unique, specs[key]))
            self.groups[group] = tuple(members)

    def _deployment(self, name: str, spec: DeploymentSpec) -> Deployment:
        params = spec.params
        model, provider = _provider_of(spec)
        limits = [params[limit] for limit in ("timeout", "request_timeout") if params.get(limit)]
        strict_s = min(limits) if limits else self._config.attempt_timeout_s
        return Deployment(
            name=name,
            group=spec.group,
            caller=self._caller(spec, model, provider),
            provider=provider,
            model=model,
            order=int(params.get("order", 1)),
            weight=next((float(params[by]) for by in ("weight", "rpm", "tpm") if params.get(by)), 0.0),
            attempt_timeout_s=strict_s or None,
            cooldown_s=params.get("cooldown_time"),
        )

    def _caller(self, spec: DeploymentSpec, model: str, provider: str) -> Caller:
        base_model = str(spec.model_info.get("base_model") or model)
        price = price_of(base_model, provider, {**spec.model_info, **spec.params})
        params: dict[str, Any] = {
            name: value
            for name, value in spec.params.items()
            if name not in _ROUTING_PARAMS and name not in PRICE_PARAMS
        }
        if provider in PROTOCOLS and not params.get("api_key"):
            # LiteLLM itself would look into the process's environment, which knows no files.
            names = PROTOCOLS[provider].key_variables
            key = next((found for name in names if (found := self._environ.get(name))), None)
            params |= {"api_key": key} if key else {}
        if speaks(provider, params):
            return DirectCaller(
                self._session,
                model=model,
                provider=provider,
                params=params,
                price=price,
                environ=self._environ,
            )
        return GenericCaller(self._session, model=model, provider=provider, params=params, price=price)


def _provider_of(spec: DeploymentSpec) -> tuple[str, str]:
    """Return the model id and LiteLLM's name of the provider."""
    try:
        model, provider, _, _ = litellm.get_llm_provider(
            model=spec.params["model"],
            custom_llm_provider=spec.params.get("custom_llm_provider"),
            api_base=spec.params.get("api_base"),
            api_key="unused",
        )
    except Exception:  # noqa: BLE001 (LiteLLM's message may quote parameters)
        raise ConfigurationError(
            f"group {spec.group}: LiteLLM does not know the provider of {spec.params['model']}; "
            "write provider/model, for instance openai/gpt-4o"
        ) from None
    return model, provider
