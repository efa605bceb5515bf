"""What the binary's interpreter runs: the `fmedge` command, or a module of fmedge.children."""

from __future__ import annotations

import os
import sys

from fmedge import children
from fmedge.__main__ import main


def _give_back_environment() -> None:
    """PyInstaller's start puts its folder before the user's libraries: right for this process, that
    has read it already, and wrong for programs of the system that it starts. Without its other
    variables it does so again where this process starts itself."""
    for name in [name for name in os.environ if name.startswith("_PYI_")]:
        del os.environ[name]
    before = os.environ.pop("LD_LIBRARY_PATH_ORIG", None)
    if before is None:
        os.environ.pop("LD_LIBRARY_PATH", None)
    else:
        os.environ["LD_LIBRARY_PATH"] = before


if __name__ == "__main__":
    _give_back_environment()
    if sys.argv[1:2] == [children.VERB]:
        children.run_module(sys.argv[2:])
    else:
        sys.exit(main())
