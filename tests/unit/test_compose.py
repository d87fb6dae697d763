"""docker-compose.yml and the Dockerfiles agree with the repository. Needs no container engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config import PREFIX, Settings, load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {"llm-pool", "orchestrator", "migrate"}
ONE_SHOT = {"migrate", "ollama-pull"}
DOCKERFILES = [*sorted(ROOT.glob("services/*/Dockerfile")), ROOT / "operator/Dockerfile"]
PROVIDER_VARIABLES = {"ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OLLAMA_BASE_URL"}

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def interpolated(text: str) -> str:
    """What compose makes of a value when nothing is set."""
    return _VARIABLE.sub(lambda found: found[2] or "", text)


def environment(service: str) -> dict[str, str]:
    return {
        name: interpolated(str(value)) for name, value in SERVICES[service].get("environment", {}).items()
    }


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def test_the_seeds_five_services_are_there() -> None:
    assert set(SERVICES) == {"redis", "postgres", "ollama", "llm-pool", "orchestrator"} | ONE_SHOT


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_each_service_has_a_health_check_or_ends(service: str) -> None:
    check = SERVICES[service]["healthcheck"]
    if service in ONE_SHOT:
        assert check == {"disable": True}
        assert SERVICES[service]["restart"] in ("no", "on-failure")
    else:
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout", "retries"} <= set(check)
        assert SERVICES[service]["restart"] == "unless-stopped"


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_what_it_depends_on_can_come_true(service: str) -> None:
    for name, wanted in SERVICES[service].get("depends_on", {}).items():
        expected = "service_completed_successfully" if name in ONE_SHOT else "service_healthy"
        assert wanted == {"condition": expected}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_images_are_pinned_and_name_no_registry(service: str) -> None:
    name, _, tag = SERVICES[service]["image"].partition(":")
    assert tag
    assert "latest" not in tag
    assert "." not in name
    if service in OURS:
        assert tag == version()
    if build := SERVICES[service].get("build"):
        assert build == {"context": ".", "dockerfile": f"services/{service}/Dockerfile"}
        assert (ROOT / build["dockerfile"]).is_file()
        assert name == f"konstruct/{service}"


def test_each_image_of_ours_is_built_once() -> None:
    built = [made["image"] for made in SERVICES.values() if "build" in made]
    assert sorted(built) == sorted({SERVICES[service]["image"] for service in OURS})


@pytest.mark.parametrize("service", sorted(OURS))
def test_ours_are_held_back(service: str) -> None:
    made = SERVICES[service]
    assert made["read_only"] is True
    assert made["cap_drop"] == ["ALL"]
    assert made["security_opt"] == ["no-new-privileges:true"]
    assert any(mount.startswith("/tmp:") for mount in made["tmpfs"])


@pytest.mark.parametrize("service", sorted(OURS))
def test_the_settings_of_ours_are_settings(service: str) -> None:
    settings = load_settings(environment(service))
    assert {name for name in environment(service) if name.startswith(PREFIX)}
    if service == "orchestrator":
        assert settings.llm_pool_url == "http://llm-pool:8004"
        assert settings.message_deadline_s > Settings().message_deadline_s
    if service == "llm-pool":
        calls = 2 * settings.llm_pool_attempt_timeout_s + settings.llm_pool_ollama_timeout_s
        deadline = load_settings(environment("orchestrator")).message_deadline_s
        assert calls <= settings.llm_pool_timeout_s < deadline


def test_the_three_database_users_differ_and_passwords_agree() -> None:
    urls = {name: value for name, value in environment("migrate").items() if name.endswith("_DATABASE_URL")}
    users = [value.split("://")[1].split(":")[0] for value in urls.values()]
    assert len(set(users)) == 3
    owner = environment("postgres")["OWNER_DATABASE_PASSWORD"]
    assert f"konstruct_owner:{owner}@" in urls["KONSTRUCT_MIGRATION_DATABASE_URL"]
    assert urls["KONSTRUCT_DATABASE_URL"] == environment("orchestrator")["KONSTRUCT_DATABASE_URL"]
    assert "KONSTRUCT_MIGRATION_DATABASE_URL" not in environment("orchestrator")
    init = (ROOT / "deploy/compose/postgres-init.sh").read_text()
    assert "create role konstruct_owner" in init
    assert "superuser" not in init.split("SQL")[1]


def test_every_password_can_be_replaced_and_keys_reach_the_pool_alone() -> None:
    for service, made in SERVICES.items():
        for name, value in made.get("environment", {}).items():
            if any(
                word in name for word in ("PASSWORD", "KEY", "TOKEN", "AUTH", "DATABASE_URL", "REDIS_URL")
            ):
                assert _VARIABLE.search(str(value)), f"{service}: {name}"
        keys = PROVIDER_VARIABLES & set(made.get("environment", {}))
        assert keys == (PROVIDER_VARIABLES if service == "llm-pool" else set())


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_ports_are_this_machines_and_mounts_are_there(service: str) -> None:
    for port in SERVICES[service].get("ports", []):
        assert port.startswith("127.0.0.1:")
    for volume in SERVICES[service].get("volumes", []):
        source = volume.split(":")[0]
        if source.startswith("./"):
            assert (ROOT / source).exists()
            assert volume.endswith(":ro")
        else:
            assert source in COMPOSE["volumes"]


def test_redis_keeps_what_is_queued() -> None:
    command = SERVICES["redis"]["command"]
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert option in command


def test_its_variables_are_settings_or_explained() -> None:
    explained = (ROOT / "docs/images.md").read_text()
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    for name, _ in _VARIABLE.findall((ROOT / "docker-compose.yml").read_text()):
        # One that starts like a setting but is none would stop every konstruct command of that shell.
        assert name in settings if name.startswith(PREFIX) else f"`{name}`" in explained, name


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_copies_what_is_there(dockerfile: Path) -> None:
    text = dockerfile.read_text().replace("\\\n", " ")
    for line in re.findall(r"^COPY (.+)$", text, flags=re.MULTILINE):
        words = [word for word in line.split() if not word.startswith("--")]
        if "--from=" not in line:
            assert all((ROOT / source).exists() for source in words[:-1]), line
    for name in re.findall(rf"{PREFIX}\w+", text):
        assert name.removeprefix(PREFIX).lower() in Settings.model_fields
    assert re.search(r"^USER \d+:\d+$", text, flags=re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE) == ["${BASE_IMAGE}"] * 2


def test_the_dockerfiles_share_a_pinned_base_that_names_no_registry() -> None:
    bases = {
        base
        for dockerfile in DOCKERFILES
        for base in re.findall(r"^ARG BASE_IMAGE=(.+)$", dockerfile.read_text(), flags=re.MULTILINE)
    }
    (base,) = bases
    assert re.fullmatch(r"[a-z]+:[\w.-]+", base)
    assert "latest" not in base
    assert [path.parent.name for path in DOCKERFILES] == ["llm-pool", "orchestrator", "operator"]
