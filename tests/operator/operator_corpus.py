"""Manifests, good and bad, that the model and the API server must judge alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hypothesis import strategies as st

from shared.models import API_VERSION, MAX_SPEC_BYTES

LABEL = "a" * 63
"""The longest name."""

LISTS = {
    ("identity", "expertise"): 32,
    ("identity", "languages"): 16,
    ("persona", "dos"): 32,
    ("persona", "donts"): 32,
}
"""Every list of the spec, and how many items it may have."""

TEXTS = {
    ("displayName",): 80,
    ("role",): 200,
    ("systemPrompt",): 16_384,
    ("identity", "name"): 80,
    ("identity", "background"): 4096,
    ("persona", "tone"): 500,
    ("persona", "style"): 500,
    ("model", "group"): 63,
}
"""Every text of the spec outside lists, and how many characters it may have."""

ONE_LINE = {("displayName",), ("role",), ("identity", "name")}
"""Texts of one line."""

CHARACTERS = {
    "tab": "\t",
    "line feed": "\n",
    "carriage return": "\r",
    "vertical tab": "\x0b",
    "escape": "\x1b",
    "delete": "\x7f",
    "next line": "\x85",
    "no-break space": "\xa0",
    "ogham space": "\u1680",
    "en quad": "\u2000",
    "zero width space": "\u200b",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "right-to-left override": "\u202e",
    "narrow no-break space": "\u202f",
    "word joiner": "\u2060",
    "first strong isolate": "\u2068",
    "ideographic space": "\u3000",
    "byte order mark": "\ufeff",
    "emoji": "\U0001f600",
    "combining accent": "\u0301",
}
"""Characters that regular expressions, or people, see differently."""


def agent(spec: Any, name: Any = "ada", **more: Any) -> dict[str, Any]:
    """Make a manifest."""
    return {"apiVersion": API_VERSION, "kind": "Agent", "metadata": {"name": name}, "spec": spec, **more}


def put(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Make a spec with `value` at `path`."""
    spec: dict[str, Any] = {"displayName": "Ada"}
    inner = spec
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    return spec


def corpus() -> Mapping[str, dict[str, Any]]:
    """Name every manifest."""
    return dict([*_plain(), *_names(), *_texts(), *_characters(), *_lists(), *_sizes(), *_wrong()])


def _plain() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "least", agent({"displayName": "Ada"})
    yield "empty parts", agent({"displayName": "Ada", "persona": {}, "identity": {}, "model": {}})
    yield (
        "all",
        agent(
            {
                "displayName": "Ada",
                "role": "clerk",
                "systemPrompt": "Help.\n\tBriefly.",
                "persona": {"tone": "warm", "style": "plain", "dos": ["greet"], "donts": ["shout"]},
                "identity": {
                    "name": "Ada L.",
                    "background": "Ten years\nof mail.",
                    "expertise": ["mail"],
                    "languages": ["English", "日本語"],
                },
                "model": {"group": "fast"},
                "onFallback": "disclose",
                "suspended": True,
                "revisionHistoryLimit": 0,
            }
        ),
    )
    for choice in ("allow", "disclose", "refuse", "Allow", "", "maybe", 1, True):
        yield f"onFallback {choice!r}", agent({"displayName": "Ada", "onFallback": choice})
    for limit in (0, 20, -1, 21, 2.5, "3", True):
        yield f"limit {limit!r}", agent({"displayName": "Ada", "revisionHistoryLimit": limit})
    for suspended in (True, False, "true", 0):
        yield f"suspended {suspended!r}", agent({"displayName": "Ada", "suspended": suspended})


def _names() -> Iterator[tuple[str, dict[str, Any]]]:
    spec = {"displayName": "Ada"}
    for name in (LABEL, LABEL + "a", "a", "0", "a-b", "-a", "a-", "a.b", "A", "a_b", "ä", ""):
        yield f"name {name[:8]!r} {len(name)}", agent(spec, name)


def _texts() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, longest in TEXTS.items():
        where = ".".join(path)
        yield f"{where} longest", agent(put(path, "a" * longest))
        yield f"{where} too long", agent(put(path, "a" * (longest + 1)))
        yield f"{where} empty", agent(put(path, ""))
        yield f"{where} null", agent(put(path, None))
        yield f"{where} number", agent(put(path, 7))
        yield f"{where} list", agent(put(path, ["a"]))
        if path != ("model", "group"):
            yield f"{where} longest, wide", agent(put(path, "語" * longest))
            yield f"{where} too long, wide", agent(put(path, "😀" * (longest + 1)))
    for group in ("gpt-4o", "a.b_c", "Fast", "-fast", "fast.", "a b"):
        yield f"group {group!r}", agent(put(("model", "group"), group))


def _characters() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, character in CHARACTERS.items():
        for path in (("displayName",), ("systemPrompt",)):
            where = ".".join(path)
            yield f"{where} {name} inside", agent(put(path, f"a{character}b"))
            yield f"{where} {name} first", agent(put(path, f"{character}a"))
            yield f"{where} {name} last", agent(put(path, f"a{character}"))
        yield f"item {name}", agent(put(("persona", "dos"), [f"a{character}b", f"b{character}"]))


def _lists() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, most in LISTS.items():
        where = ".".join(path)
        yield f"{where} most", agent(put(path, [f"item {number}" for number in range(most)]))
        yield f"{where} too many", agent(put(path, ["a"] * (most + 1)))
        yield f"{where} twice the same", agent(put(path, ["a", "a"]))
        yield f"{where} empty", agent(put(path, []))
        yield f"{where} null", agent(put(path, None))
        yield f"{where} null inside", agent(put(path, ["a", None]))
        yield f"{where} blank inside", agent(put(path, ["a", " "]))
        yield f"{where} empty inside", agent(put(path, ["a", ""]))
        yield f"{where} longest inside", agent(put(path, ["a" * 500]))
        yield f"{where} too long inside", agent(put(path, ["a" * 501]))
        yield f"{where} number inside", agent(put(path, [1]))
        yield f"{where} text", agent(put(path, "a"))


def _sizes() -> Iterator[tuple[str, dict[str, Any]]]:
    # displayName 3, group 7, onFallback is one of a few words: 5.
    for over in (0, 1):
        rest = MAX_SPEC_BYTES - 3 - 7 + over
        spec = put(("systemPrompt",), "語" * 16_000)
        rest -= 48_000
        items = ["a" * 500] * (rest // 500)
        spec["persona"] = {"donts": [*items, "a" * (rest % 500)] if rest % 500 else items}
        yield f"texts over by {over}", agent(spec)
    yield (
        "texts far over",
        agent(put(("identity", "expertise"), ["😀" * 500] * 32) | {"systemPrompt": "a" * 9000}),
    )


def _wrong() -> Iterator[tuple[str, dict[str, Any]]]:
    yield "no spec", {key: value for key, value in agent({}).items() if key != "spec"}
    yield "spec null", agent(None)
    yield "spec text", agent("Ada")
    yield "spec list", agent([])
    yield "spec empty", agent({})
    yield "unknown field", agent({"displayName": "Ada", "displyName": "Ada"})
    yield "unknown field, null", agent({"displayName": "Ada", "displyName": None})
    yield "snake case", agent({"display_name": "Ada"})
    yield "both cases", agent({"displayName": "Ada", "system_prompt": "x"})
    for part in ("persona", "identity", "model"):
        yield f"{part} null", agent({"displayName": "Ada", part: None})
        yield f"{part} text", agent({"displayName": "Ada", part: "x"})
        yield f"{part} list", agent({"displayName": "Ada", part: []})
        yield f"{part} unknown field", agent({"displayName": "Ada", part: {"novelty": "x"}})
    for field in ("onFallback", "suspended", "revisionHistoryLimit"):
        yield f"{field} null", agent({"displayName": "Ada", field: None})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "a"]),
    st.sampled_from([*CHARACTERS.values()]),
    st.sampled_from(["", "b"]),
)
"""Short texts, of which many hold a character that is seen differently."""

misfits = st.none() | st.booleans() | st.integers(-1, 21) | texts | st.lists(texts, max_size=3)
"""What may stand where something else is meant."""


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Make a spec of fields that exist, most of them good."""
    spec: dict[str, Any] = {"displayName": draw(st.just("Ada") | texts)}
    places = [(path, texts) for path in TEXTS] + [(path, st.lists(texts, max_size=4)) for path in LISTS]
    for path, made in draw(st.lists(st.sampled_from(places), max_size=5)):
        inner = spec
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = draw(made)
    spec["onFallback"] = draw(st.sampled_from(["allow", "disclose", "refuse"]))
    return spec
