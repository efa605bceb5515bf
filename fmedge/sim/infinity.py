"""Limits that may be infinite, as JSON has them: null, where a null can mean nothing else."""

from __future__ import annotations

from math import inf
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict


def with_nulls(held: Struct) -> dict[str, Any]:
    """A Struct's fields; None for inf."""
    return {field: None if value == inf else value for field, value in asdict(held).items()}


def with_infinities(written: Struct) -> dict[str, Any]:
    """A Struct's fields; inf for None."""
    return {field: inf if value is None else value for field, value in asdict(written).items()}
