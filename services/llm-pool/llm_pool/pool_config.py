"""What the pool serves: groups, their deployments, and who stands in for whom.

Made by `providers.defaults` from provider keys, or by `config_file` from LiteLLM's YAML.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """One entry of LiteLLM's ``model_list``, secrets resolved."""

    group: str
    """``model_name``: the group it belongs to."""

    params: dict[str, Any] = field(repr=False)
    """``litellm_params``; holds the key."""

    model_info: dict[str, Any] = field(default_factory=dict, repr=False)
    """``model_info``: own prices, ``base_model``."""

    missing: tuple[str, ...] = ()
    """Environment variables it needs that are not set; not usable unless empty."""


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The whole configuration of groups."""

    deployments: tuple[DeploymentSpec, ...]
    """All of them, in the order given."""

    fallbacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups asked next, by group."""

    context_window_fallbacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups asked next when the prompt was too long, by group; before `fallbacks`."""

    content_policy_fallbacks: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups asked next when the content was refused, by group; before `fallbacks`."""

    default_fallbacks: tuple[str, ...] = ()
    """Groups asked next for groups that name none."""

    aliases: dict[str, str] = field(default_factory=dict)
    """Other names of groups."""

    max_fallbacks: int = 5
    """How many other groups one request may ask."""

    allowed_fails: int | None = None
    """Failures in a minute before a cooldown; none: the pool's setting."""

    cooldown_s: float | None = None
    """Length of a cooldown; none: the pool's setting."""

    attempt_timeout_s: float | None = None
    """Longest call to a deployment that names none; none: the pool's setting."""

    warnings: tuple[str, ...] = ()
    """What was read and has no effect here, for the log at start."""

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of all groups, in the order of their first deployment."""
        return tuple(dict.fromkeys(spec.group for spec in self.deployments))
