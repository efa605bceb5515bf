"""How a process of ours is started: the one place that knows.

It is this very fmedge again: the interpreter that runs us, with our import path; or, in the single
binary, the binary itself, which runs a module instead of a verb when VERB is its first argument.
"""

from __future__ import annotations

import os
import runpy
import sys

VERB = "__module__"
"""Not for people: only the binary knows it, and only for MODULES."""

WORKER = "fmedge.replica.worker"
SIZING = "fmedge.replica.sizing_child"
PROBE = "fmedge.replica.probe_child"
DEVICE = "fmedge.replica.device_child"
SANDBOX = "fmedge.models.sandboxed"
MODULES = (WORKER, SIZING, PROBE, DEVICE, SANDBOX)

EXIT_USAGE = 2


def is_binary() -> bool:
    """Whether this is the single binary (or the folder that it unpacks): PyInstaller says so."""
    return bool(getattr(sys, "frozen", False))


def module_command(module: str, *arguments: str) -> list[str]:
    """Runs one of MODULES. -P keeps the working directory out of its import path."""
    if is_binary():
        return [sys.executable, VERB, module, *arguments]
    return [sys.executable, "-P", "-m", module, *arguments]


def fmedge_command(*arguments: str) -> list[str]:
    """Runs the `fmedge` command."""
    if is_binary():
        return [sys.executable, *arguments]
    return [sys.executable, "-m", "fmedge", *arguments]


def environment() -> dict[str, str]:
    """Ours, with our import path, so that the child runs the very same fmedge."""
    if is_binary():  # its import path is inside, and not to be had from outside
        return dict(os.environ)
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def run_module(arguments: list[str]) -> None:
    """In the binary, what follows VERB: a module of ours as `python -m` would run it."""
    if not arguments or arguments[0] not in MODULES:
        sys.stderr.write(f"fmedge: error: {VERB} is for fmedge itself, not for people\n")
        raise SystemExit(EXIT_USAGE)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
