"""The `fmedge` command, also as `python -m fmedge`: an interrupt while its modules are still being
imported ends it as quietly as one later."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> int:
    """Runs the command line; returns the exit code."""
    try:
        from fmedge.cli import main as run

        return run()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
