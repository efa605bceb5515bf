"""Runs checks side by side, all within one time.

The rule: a check that hangs (a dead network file system, a driver) or fails costs its own answer
and nothing else. It is left behind in a thread that does not keep the process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from fmedge.cli.checks.finding import Finding, warning
from fmedge.errors import FmedgeError

Check = Callable[[], Iterable[Finding]]


def examine(checks: Mapping[str, Check], timeout_s: float) -> list[Finding]:
    """All findings, in the order of the checks; they begin with the name of theirs."""
    deadline_s = monotonic() + timeout_s
    results: dict[str, list[Finding]] = {}
    threads = []
    for name, check in checks.items():
        thread = threading.Thread(target=_run, args=(name, check, results), daemon=True)
        thread.start()
        threads.append(thread)
    findings: list[Finding] = []
    for name, thread in zip(checks, threads, strict=True):
        thread.join(max(0.0, deadline_s - monotonic()))
        late = warning(
            name, f"no answer within {timeout_s:g} s",
            "run it again; if it stays so, what it looks at hangs",
        )  # fmt: skip
        findings += results.get(name, [late])
    return findings


def _run(name: str, check: Check, results: dict[str, list[Finding]]) -> None:
    try:
        results[name] = list(check())
    except Exception as failure:  # one check must not take the others with it
        what = str(failure) if isinstance(failure, FmedgeError) else _described(failure)
        results[name] = [warning(name, f"could not be looked at: {what}", "the other checks count")]


def _described(failure: Exception) -> str:
    if isinstance(failure, OSError) and failure.strerror:
        return f"{failure.filename}: {failure.strerror}" if failure.filename else failure.strerror
    return f"{type(failure).__name__}: {failure}"
