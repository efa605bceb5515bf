"""Findings of `fmedge doctor`, made short for comparing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fmedge.cli.checks.finding import Finding
from fmedge.config import Config, load_config


def said(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(f.check, f.status, f"{f.found} -> {f.advice}") for f in findings]


def only(findings: Iterable[Finding]) -> tuple[str, str]:
    """Status and text, where there is one finding."""
    ((_, status, text),) = said(findings)
    return status, text


def configured(**env: Any) -> Config:
    return load_config(environ={f"FMEDGE_{key.upper()}": str(v) for key, v in env.items()})
