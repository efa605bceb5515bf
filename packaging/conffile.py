"""The example configuration as a file that changes nothing: each setting in it is a comment.

The rule: `#` before a key or a block is what to take away to set it; `# ` starts an explanation.
The two blocks that may be empty stay, so that a key of theirs alone needs to be taken into use.
"""

from __future__ import annotations

import re

STAYING = ("[server]", "[defaults]")
_SET = re.compile(r"# ?(?=\[|\w+ = )")
HEAD = """\
# Configuration of fmedge.service: take the # away from what you want to change. As it is here,
# the tiny demonstration model that is part of fmedge is served on loopback, port 8080.
# After a change: fmedge config check /etc/fmedge/fmedge.toml && systemctl reload fmedge
#
"""


def commented(example: str) -> str:
    """Of packaging/fmedge.example.toml."""
    lines = []
    for line in example.splitlines():
        if not line or line.startswith(STAYING):
            lines.append(line)
        elif line.startswith("#"):
            lines.append(_SET.sub("#", line, count=1) if _SET.match(line) else line)
        elif line.startswith(" "):  # a comment that goes on, in its column
            lines.append(f"# {line[2:]}")
        else:
            lines.append(f"#{line}")
    return HEAD + "\n".join(lines) + "\n"


def uncommented(conffile: str) -> str:
    """With every setting taken into use."""
    return re.sub(r"(?m)^#(?=\[|\w+ = )", "", conffile.removeprefix(HEAD))
