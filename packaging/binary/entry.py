"""What the binary's interpreter runs: the `fmedge` command, or a module of fmedge.children."""

from __future__ import annotations

import os
import sys

from fmedge import children
from fmedge.__main__ import main


def _give_back_library_path() -> None:
    """PyInstaller's start puts its folder before the user's: right for this process, which has it
    already, and wrong for programs of the system that this one starts."""
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    else:
        os.environ["LD_LIBRARY_PATH"] = before


if __name__ == "__main__":
    _give_back_library_path()
    if sys.argv[1:2] == [children.VERB]:
        children.run_module(sys.argv[2:])
    else:
        sys.exit(main())
