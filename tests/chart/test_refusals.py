"""Values that Helm refuses: misspelt, contradictory, or no name, tag or quantity; it says what to set."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.chart.rendering import EXTERNAL, IN_CHART, ChartError, render_chart


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": {}},
        {"worker": {"replica": 2}},
        {"llmPool": {"image": {"repo": "x"}}},
        {"watch": {"namespaces": "all"}},
        {"watch": {"namespaces": ["Not_A_Name"]}},
        {"networkPolicy": {"dns": {"to": [{"cidr": "10.0.0.0/8"}]}}},
        {"worker": {"resources": {"request": {}}}},
        {"worker": {"concurrency": "many"}},
        {"postgresql": {"enabled": "yes"}},
    ],
    ids=json.dumps,
)
def test_misspelt_values_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ChartError, match="values don't meet the specifications of the schema"):
        render_chart(EXTERNAL, wrong)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "No database: set database.existingSecret"),
        ({"postgresql": {"enabled": True}}, "No queue: set queue.existingSecret"),
        ({**IN_CHART, "database": {"existingSecret": "x"}}, "Two databases"),
        ({**IN_CHART, "queue": {"existingSecret": "x"}}, "Two queues"),
        ({**IN_CHART, "secrets": {"generate": False}}, "the in-chart servers need generated passwords"),
        ({**EXTERNAL, "secrets": {"generate": False}}, "set llmPool.auth.existingSecret"),
        (
            {**EXTERNAL, "secrets": {"generate": False}, "llmPool": {"auth": {"existingSecret": "x"}}},
            "set signing.existingSecret",
        ),
        ({**IN_CHART, "llmPool": {"timeoutSeconds": 120}}, "must be below worker.messageDeadlineSeconds"),
        ({**IN_CHART, "llmPool": {"attemptTimeoutSeconds": 111}}, "must not be above llmPool.timeoutSeconds"),
        (
            {**IN_CHART, "llmPool": {"autoscaling": {"minReplicas": 7}}},
            "llmPool.autoscaling.minReplicas (7) is above maxReplicas (6): raise llmPool",
        ),
        ({**IN_CHART, "worker": {"keda": {"minReplicas": 11}}}, "worker.keda.minReplicas (11) is above"),
        (
            {**IN_CHART, "nameOverride": "Caps"},
            'nameOverride "Caps" cannot be part of a name: write lower-case',
        ),
        ({**IN_CHART, "fullnameOverride": "1a"}, 'fullnameOverride "1a" cannot be part of a name'),
        (
            {**IN_CHART, "image": {"tag": "@sha256:" + "0" * 64}},
            "A digest (sha256:...) belongs into llmPool.image.digest",
        ),
        (
            {**IN_CHART, "worker": {"extraEnv": [{"name": "KONSTRUCT_DRAIN_S"}]}},
            "worker.extraEnv: KONSTRUCT_DRAIN_S",
        ),
        (
            {
                "postgresql": {"enabled": True},
                "redis.enabled": True,
                "redis.resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}},
            },
            "redis.resources.requests.memory (2Gi) is above its limit (1Gi)",
        ),
        (
            {
                **IN_CHART,
                "llmPool": {
                    "modelList": [
                        {"model_name": "q", "litellm_params": {"model": "x", "api_key": "sk-canary"}}
                    ]
                },
            },
            "llmPool.modelList[0].litellm_params.api_key would be readable in a ConfigMap",
        ),
    ],
)
def test_contradictions_are_one_sentence_that_says_what_to_set(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ChartError, match=re.escape(message)) as caught:
        render_chart(values)
    assert "canary" not in str(caught.value)
