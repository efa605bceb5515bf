"""The `fmedge` command, also as `python -m fmedge`: an interrupt while its modules are still being
imported ends it as quietly as one later, and no locale keeps it from reading or writing a text."""

from __future__ import annotations

import io
import os
import sys

EXIT_INTERRUPTED = 130


def main() -> int:
    """Runs the command line; returns the exit code."""
    try:
        _use_utf8()
        from fmedge.cli import main as run

        return run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _use_utf8() -> None:
    """Where file names are ASCII (the locale is C, and PYTHONUTF8=0 says to leave it so), nothing
    else can be named or said, here and in our workers: start anew with UTF-8. What another encoding
    of the terminal lacks is shown by its number."""
    if sys.getfilesystemencoding() == "ascii" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
