"""Telling JSON that was damaged on a disk or on the way from JSON that was written so."""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec

_FIELD: Final = "checksum"


def checksum(value: Any) -> str:
    """Return eight hex digits that hang on every byte of a value's JSON; reading the JSON back gives the same ones."""
    return f"{zlib.crc32(msgspec.json.encode(value)):08x}"


def sealed(fields: dict[str, Any]) -> dict[str, Any]:
    """Return an object with its checksum as the last field."""
    return {**fields, _FIELD: checksum(fields)}


def unsealed(text: bytes) -> dict[str, Any] | None:
    """Return the object that this JSON holds, without its checksum; None where that is not what it was made from."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields = {name: field for name, field in value.items() if name != _FIELD}
    return fields if value.get(_FIELD) == checksum(fields) else None
