"""What settings demand of secrets that people choose, and of what makes sense only beside another setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

from pydantic import AfterValidator, GetCoreSchemaHandler, SecretStr, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

SHORTEST_TOKEN = 16
"""Characters of a token; a random one of so many letters and digits is guessed by nobody."""


SHORTEST_KEY = 32
"""Characters of a key: who has something that it signed may try keys by the billion, and unnoticed."""


def _at_least(shortest: int) -> AfterValidator:
    """Demand `shortest` characters that can be sent and pasted without a change."""

    def check(value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if len(text) < shortest or not text.isprintable() or any(part.isspace() for part in text):
            raise PydanticCustomError(
                "weak_secret",
                "must have at least {shortest} characters and no white space: `openssl rand -hex 32`",
                {"shortest": shortest},
            )
        return value

    return AfterValidator(check)


Token = Annotated[SecretStr, _at_least(SHORTEST_TOKEN)]
"""A secret that is sent in a header."""

Key = Annotated[SecretStr, _at_least(SHORTEST_KEY)]
"""A secret that signs."""


def is_secret(annotation: object) -> bool:
    """Whether a field of this type holds a secret, alone or among other types."""
    return annotation is SecretStr or any(is_secret(part) for part in get_args(annotation))


@dataclass(frozen=True, slots=True)
class Second:
    """Marks what means nothing without another setting: a second token, which would then check nothing."""

    first: str
    """The other's field, which comes before it."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Add the check to the field's own."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def _check(self, value: object, info: ValidationInfo) -> object:
        # A first one that was refused is not in the data, and is told of already.
        if value is not None and info.data.get(self.first, value) is None:
            raise PydanticCustomError(
                "second_alone",
                "goes with KONSTRUCT_{first}, which is not set; set both, or neither",
                {"first": self.first.upper()},
            )
        return value


@dataclass(frozen=True, slots=True)
class Encrypts:
    """Marks a file that is used for connections to a URL: that is to ask for encryption."""

    url: str
    """The URL's field, which comes before it."""

    scheme: str
    """How the URL is to begin."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Add the check to the field's own."""
        return core_schema.with_info_after_validator_function(self._check, handler(source))

    def _check(self, value: Path | None, info: ValidationInfo) -> Path | None:
        url = info.data.get(self.url, self.scheme)
        text = url.get_secret_value() if isinstance(url, SecretStr) else str(url)
        if value is not None and not text.startswith(self.scheme):
            raise PydanticCustomError(
                "not_encrypted",
                "is set, and KONSTRUCT_{url} does not ask for encryption: let it begin with {scheme}",
                {"url": self.url.upper(), "scheme": self.scheme},
            )
        return value
