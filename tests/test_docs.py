"""docs/config.md names every setting with its default, as the code has them.

`python -m tests.test_docs` writes the table anew.
"""

from __future__ import annotations

from pathlib import Path

from fmedge import config

PAGE = Path(__file__).resolve().parent.parent / "docs" / "config.md"
START, END = "<!-- settings -->\n", "<!-- /settings -->\n"
TITLES = {
    "server": "`[server]`",
    "defaults": "`[defaults]`, and in each `[[model]]`",
    "sla": "`[sla.NAME]`",
    "workflows": "`[workflows.NAME]`",
    "client": "`[client]` (run, ps, bench)",
}


def tables() -> str:
    parts = []
    for section, title in TITLES.items():
        parts.append(f"\n### {title}\n\n| key | default | |\n| --- | --- | --- |\n")
        for setting in config.settings(section):
            default = setting.default
            shown = "" if default in ("", None, ()) else f"`{str(default).lower()}`"
            when = "; **fixed at start**" if setting.is_fixed else ""
            parts.append(f"| `{setting.key}` | {shown} | {setting.help}{when} |\n")
    return "".join(parts) + "\n"


def with_tables(page: str) -> str:
    before, rest = page.split(START)
    return before + START + tables() + END + rest.split(END)[1]


def test_config_page_is_what_the_code_says():
    page = PAGE.read_text()
    assert page == with_tables(page), "run: python -m tests.test_docs"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
