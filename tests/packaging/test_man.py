"""The manual page says what the command line takes, and man shows it without a complaint."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmedge import cli
from fmedge.cli.commands import commands

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("man") / "fmedge.1"
    command = [sys.executable, str(ROOT / "packaging" / "man.py"), str(file)]
    subprocess.run(command, check=True, timeout=60)
    return file


def shown(page: Path) -> str:
    if shutil.which("man") is None or shutil.which("col") is None:
        pytest.skip("no man here")
    done = subprocess.run(
        ["man", "--warnings", "--local-file", str(page)],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100", "MANROFFSEQ": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == "", "groff complains"
    return subprocess.run(
        ["col", "-bx"], input=done.stdout, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_every_verb_and_option_is_shown(page: Path) -> None:
    text = shown(page)
    for command in commands(cli.parsers()):
        assert re.search(rf"^   fmedge {' '.join(command.words)}$", text, re.M), command.words
        for option in command.options:
            flags = ", ".join(option.flags)
            assert flags == "-h, --help" or re.search(rf"^       {flags}( |$)", text, re.M), flags
    assert "lifeline" not in text


def test_each_option_of_the_server_stands_once(page: Path) -> None:
    assert page.read_text().count("\\fB\\-\\-ctx\\-size\\fR") == 1


def test_exit_codes_and_sections(page: Path) -> None:
    text = shown(page)
    exit_status = text.split("\nEXIT STATUS\n")[1].split("\nEXAMPLES\n")[0]
    assert re.findall(r"^       (\d+) ", exit_status, re.M) == ["0", "1", "2", "3", "130"]
    assert "VERB [OPTION ...]" in text.split("\nSYNOPSIS\n")[1].split("\n\n")[0]


def test_a_page_of_the_same_sources_is_the_same(page: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.1"
    subprocess.run(
        [sys.executable, str(ROOT / "packaging" / "man.py"), str(again)],
        env={"TZ": "Asia/Tokyo", "COLUMNS": "40", "LC_ALL": "C"},
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    assert again.read_bytes() == page.read_bytes()
