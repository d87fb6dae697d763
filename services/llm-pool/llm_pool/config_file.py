"""Reads the configuration file that LiteLLM users already have.

What the pool does differently from LiteLLM's proxy is refused or warned of, never silently ignored.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from llm_pool.config_keys import (
    FALLBACK_KEYS,
    LITELLM_KEYS,
    ROUTER_KEYS,
    ROUTER_WITHOUT_EFFECT,
    SECTIONS,
    SECTIONS_REFUSED,
    SECTIONS_WITHOUT_EFFECT,
)
from llm_pool.pool_config import DeploymentSpec, PoolConfig
from shared.config import ConfigurationError
from shared.names import GroupName

_ENV = "os.environ/"
"""Prefix of a value that names an environment variable."""

_GROUP_NAME: TypeAdapter[str] = TypeAdapter(GroupName)


def load_config_file(path: Path, environ: Mapping[str, str]) -> PoolConfig:
    """Read LiteLLM's YAML.

    Args:
        path: The file.
        environ: Where ``os.environ/NAME`` is looked up. A deployment whose variable is not set is
            not usable; ``/health`` names the variable.

    Raises:
        ConfigurationError: the file cannot be read or says something that the pool cannot do. The
            message names the place and repeats no value of ``litellm_params``.
    """
    return _Reader(path, environ).read()


class _Reader:
    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self._path = path
        self._environ = environ
        self._own: dict[str, str] = {}
        self._warnings: list[str] = []

    def read(self) -> PoolConfig:
        document = self._document()
        self._own |= {
            str(name): str(self._resolved(value, []))
            for name, value in self._mapping(document, "environment_variables").items()
        }
        router = self._mapping(document, "router_settings")
        proxy = self._mapping(document, "litellm_settings")
        self._check_keys(router, proxy)
        deployments = self._deployments(document)
        either = {key: _given(router.get(key), proxy.get(key)) for key in FALLBACK_KEYS}
        timeout = _given(router.get("timeout"), proxy.get("request_timeout"))
        allowed_fails = _given(router.get("allowed_fails"), proxy.get("allowed_fails"))
        max_fallbacks = self._count(router.get("max_fallbacks"), "max_fallbacks")
        config = PoolConfig(
            deployments=deployments,
            fallbacks=self._fallbacks(either, "fallbacks"),
            context_window_fallbacks=self._fallbacks(either, "context_window_fallbacks"),
            content_policy_fallbacks=self._fallbacks(either, "content_policy_fallbacks"),
            default_fallbacks=self._names(_given(either["default_fallbacks"], []), "default_fallbacks"),
            aliases=self._aliases(router),
            **({} if max_fallbacks is None else {"max_fallbacks": max_fallbacks}),
            allowed_fails=self._count(allowed_fails, "allowed_fails"),
            cooldown_s=self._number(router.get("cooldown_time"), "cooldown_time"),
            attempt_timeout_s=self._duration(timeout, "timeout"),
            warnings=tuple(self._warnings),
        )
        self._check_names(config)
        return config

    def _document(self) -> dict[str, Any]:
        try:
            document = yaml.safe_load(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"{self._path}: cannot be read: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f" at line {mark.line + 1}" if mark is not None else ""
            raise ConfigurationError(f"{self._path}: is no YAML{where}") from None
        if not isinstance(document, dict):
            raise self._error("must be a mapping with model_list")
        for section, why in SECTIONS_REFUSED.items():
            if document.get(section):
                raise self._error(f"{section} is not supported: {why}")
        for section, why in SECTIONS_WITHOUT_EFFECT.items():
            if document.get(section):
                self._warn(section, why)
        self._known(document, "the file", SECTIONS, also=(*SECTIONS_WITHOUT_EFFECT, *SECTIONS_REFUSED))
        return document

    def _check_keys(self, router: dict[str, Any], proxy: dict[str, Any]) -> None:
        self._known(router, "router_settings", ROUTER_KEYS, also=tuple(ROUTER_WITHOUT_EFFECT))
        for key in router.keys() & ROUTER_WITHOUT_EFFECT.keys():
            self._warn(f"router_settings.{key}", ROUTER_WITHOUT_EFFECT[key])
        for key in proxy.keys() - set(LITELLM_KEYS):
            self._warn(f"litellm_settings.{key}", "it belongs to LiteLLM's proxy")
        strategy = router.get("routing_strategy", "simple-shuffle")
        if strategy != "simple-shuffle":
            raise self._error(
                "router_settings.routing_strategy: only simple-shuffle (with weight, rpm, tpm, order)"
            )

    def _deployments(self, document: dict[str, Any]) -> tuple[DeploymentSpec, ...]:
        entries = document.get("model_list")
        if not isinstance(entries, list) or not entries:
            raise self._error("model_list: must be a list of at least one deployment")
        return tuple(self._deployment(entry, f"model_list[{number}]") for number, entry in enumerate(entries))

    def _deployment(self, entry: Any, where: str) -> DeploymentSpec:
        if not isinstance(entry, dict):
            raise self._error(f"{where}: must be a mapping")
        self._known(entry, where, ("model_name", "litellm_params", "model_info", "rpm", "tpm"))
        params, info = entry.get("litellm_params"), _given(entry.get("model_info"), {})
        if not isinstance(params, dict) or not isinstance(params.get("model"), str):
            raise self._error(f"{where}.litellm_params.model: is required, for instance openai/gpt-4o")
        if not isinstance(info, dict):
            raise self._error(f"{where}.model_info: must be a mapping")
        if "*" in params["model"]:
            raise self._error(f"{where}.litellm_params.model: wildcards are not supported; name each model")
        missing: list[str] = []
        params = {key: self._resolved(value, missing) for key, value in params.items()}
        params |= {
            key: entry[key] for key in ("rpm", "tpm") if entry.get(key) is not None and key not in params
        }
        for key in ("order", "weight", "rpm", "tpm", "cooldown_time"):
            params[key] = self._number(params.get(key), f"{where}.litellm_params.{key}")
        for key in ("timeout", "request_timeout"):
            params[key] = self._duration(params.get(key), f"{where}.litellm_params.{key}")
        params = {key: value for key, value in params.items() if value is not None}
        return DeploymentSpec(
            group=self._group(entry.get("model_name"), f"{where}.model_name"),
            params=params,
            model_info=dict(info),
            missing=tuple(dict.fromkeys(missing)),
        )

    def _resolved(self, value: Any, missing: list[str]) -> Any:
        if isinstance(value, dict):
            return {key: self._resolved(inner, missing) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._resolved(inner, missing) for inner in value]
        if isinstance(value, str) and value.startswith(_ENV):
            name = value.removeprefix(_ENV)
            found = self._own[name] if name in self._own else self._environ.get(name)
            if not found:
                missing.append(name)
                return None
            return found
        return value

    def _fallbacks(self, either: dict[str, Any], key: str) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        items = _given(either[key], [])
        for item in items if isinstance(items, list) else [items]:
            if not isinstance(item, dict) or not isinstance(items, list):
                raise self._error(f"{key}: must be a list of mappings, for instance [{{quality: [fast]}}]")
            for group, names in item.items():
                found[str(group)] = self._names(names, key)
        return found

    def _names(self, names: Any, key: str) -> tuple[str, ...]:
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._error(f"{key}: groups must be given as a list of names")
        return tuple(names)

    def _aliases(self, router: dict[str, Any]) -> dict[str, str]:
        aliases = self._mapping(router, "model_group_alias")
        return {
            self._group(alias, "model_group_alias"): str(
                target["model"] if isinstance(target, dict) else target
            )
            for alias, target in aliases.items()
        }

    def _check_names(self, config: PoolConfig) -> None:
        known = set(config.groups)
        fallbacks = {
            "fallbacks": config.fallbacks,
            "context_window_fallbacks": config.context_window_fallbacks,
            "content_policy_fallbacks": config.content_policy_fallbacks,
            "default_fallbacks": {"*": config.default_fallbacks},
        }
        named = {
            key: {*mapping, *(name for names in mapping.values() for name in names)} - {"*"}
            for key, mapping in fallbacks.items()
        }
        named["model_group_alias"] = set(config.aliases.values())
        for key, names in named.items():
            for name in sorted(names - known):
                raise self._error(f"{key}: no group is called {name}{_hint(name, known)}")
        for name in sorted(config.aliases.keys() & known):
            raise self._error(
                f"model_group_alias: {name} is a group of model_list; give the alias another name"
            )

    def _group(self, name: Any, where: str) -> str:
        try:
            return _GROUP_NAME.validate_python(name)
        except ValidationError:
            raise self._error(
                f"{where}: a group's name is lower-case letters, digits, '-', '_' and '.', at most 63 of them"
            ) from None

    def _mapping(self, document: dict[str, Any], key: str) -> dict[str, Any]:
        section = _given(document.get(key), {})
        if not isinstance(section, dict):
            raise self._error(f"{key}: must be a mapping")
        return section

    def _count(self, value: Any, where: str) -> int | None:
        number = self._number(value, where)
        if number is not None and not number.is_integer():
            raise self._error(f"{where}: must be a whole number")
        return None if number is None else int(number)

    def _duration(self, value: Any, where: str) -> float | None:
        number = self._number(value, where)
        if number == 0:
            raise self._error(f"{where}: 0 leaves no time to answer; give seconds, or leave it out")
        return number

    def _number(self, value: Any, where: str) -> float | None:
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if isinstance(value, bool) or not 0 <= number <= 1e12:
            raise self._error(f"{where}: must be a number, 0 or more")
        return number

    def _known(
        self, mapping: dict[str, Any], where: str, keys: tuple[str, ...], *, also: tuple[str, ...] = ()
    ) -> None:
        for key in mapping:
            if key not in keys and key not in also:
                raise self._error(
                    f"{where}: {key} is not supported{_hint(str(key), {*keys, *also})}; "
                    f"known are {', '.join(keys)}"
                )

    def _warn(self, what: str, why: str) -> None:
        self._warnings.append(f"{self._path}: {what} has no effect: {why}")

    def _error(self, text: str) -> ConfigurationError:
        return ConfigurationError(f"{self._path}: {text}")


def _given(first: Any, second: Any) -> Any:
    """Return the first value that is given; 0 and an empty list are."""
    return second if first is None else first


def _hint(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""
