"""What a check found, and what to do about it.

The rule: whatever is not ok comes with an advice, a command where there is one.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Status = Literal["ok", "warning", "error"]


class Finding(Struct, frozen=True, kw_only=True):
    """check: what was looked at. error: fmedge does not start or does not serve so; warning: it
    serves, but worse than it could, or less safely."""

    check: str
    status: Status
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check=check, status="ok", found=found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check=check, status="warning", found=found, advice=advice)


def error(check: str, found: str, advice: str) -> Finding:
    return Finding(check=check, status="error", found=found, advice=advice)
