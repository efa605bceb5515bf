"""`fmedge completion`, typed into the shells themselves."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from fmedge import cli
from fmedge.cli.commands import commands
from fmedge.cli.completion import script

DEADLINE_S = 30.0
STARTS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
PREPARED = {
    "bash": "bind 'set enable-bracketed-paste off'; ",
    "zsh": "unsetopt zle_bracketed_paste; autoload -Uz compinit; compinit -u -D; ",
}
# typed before Tab -> the arguments that the command then gets
TYPED = {
    "comple": ["completion"],
    "device-": ["device-server"],
    "serve --split-m": ["serve", "--split-mode"],
    "serve --policy rou": ["serve", "--policy", "round_robin"],
    "serve --policy=rou": ["serve", "--policy=round_robin"],
    "serve --port 80 --no-mm": ["serve", "--port", "80", "--no-mmap"],
    "bench dif": ["bench", "diff"],
    "bench diff --conf": ["bench", "diff", "--confidence"],
    "bench --conc": ["bench", "--concurrency"],
    "completion zs": ["completion", "zsh"],
    "config check ser": ["config", "check", "server one.toml"],
    "serve --config ser": ["serve", "--config", "server one.toml"],
    "serve --state-dir fol": ["serve", "--state-dir", "folder"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "server one.toml").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.txt").touch()
    return tmp_path


def typed(shell: str, folder: Path, lines: list[str]) -> list[list[str]]:
    """What a shell runs when each line is typed, then Tab, then Enter."""
    (folder / "script").write_text(script(shell))
    got = folder / "got"
    start = (
        f"{PREPARED[shell]}. ./script; fmedge() {{ printf '%s\\n' \"$@\" '' >> got; }}; "
        "PS1=; printf 're%s\\n' ady\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="dumb", HISTFILE="", LC_ALL="C.UTF-8")
        os.execvp(STARTS[shell][0], STARTS[shell])
    seen = ""

    def until(is_there: object, what: str) -> None:
        nonlocal seen
        deadline_s = time.monotonic() + DEADLINE_S
        while not is_there():  # type: ignore[operator]
            assert time.monotonic() < deadline_s, f"no {what} from {shell}:\n{seen}"
            if select.select([terminal], [], [], 0.05)[0]:
                seen += os.read(terminal, 65536).decode(errors="replace")

    try:
        os.write(terminal, start.encode())
        until(lambda: "ready" in seen, "start")
        for number, line in enumerate(lines, 1):
            os.write(terminal, f"fmedge {line}\t\n".encode())
            until(
                lambda number=number: got.exists() and got.read_text().count("\n\n") >= number,
                f"run of {line!r}",
            )
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        os.waitpid(pid, 0)
    # zsh takes the slash after a folder away again when the line ends there
    return [part.rstrip("/").split("\n") for part in got.read_text().split("\n\n")[:-1]]


@pytest.mark.parametrize("shell", list(STARTS))
def test_a_shell_completes_what_is_typed(shell: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    found = typed(shell, folder, list(TYPED))
    assert dict(zip(TYPED, found, strict=True)) == TYPED


def test_fish_completes_what_is_typed(folder: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    (folder / "script").write_text(script("fish"))
    lines = "; ".join(f"echo =; complete -C 'fmedge {line}'" for line in TYPED)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source script; {lines}"],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert done.stderr == ""
    answers = [
        [line.split("\t")[0].rstrip("/") for line in part.strip().split("\n")]
        for part in done.stdout.split("=\n")[1:]
    ]
    expected = [[words[-1]] for words in TYPED.values()]
    assert dict(zip(TYPED, answers, strict=True)) == dict(zip(TYPED, expected, strict=True))


def test_every_option_of_every_verb_is_in_every_script() -> None:
    scripts = {shell: script(shell) for shell in ("bash", "zsh", "fish")}
    for command in commands(cli.parsers()):
        for option in command.options:
            for flag in option.flags:
                assert f" {flag} " in scripts["bash"].replace("'", " ")
                assert f"'*{flag}" in scripts["zsh"]
                fish = f"-l {flag[2:]} " if flag.startswith("--") else f"-s {flag[1:]} "
                assert fish in scripts["fish"]


def test_what_only_fmedge_itself_says_is_not_offered() -> None:
    assert "--lifeline-fd" not in script("bash")


def test_the_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script("bash")
    assert cli.main(["completion", "tcsh"]) == 2
    assert "invalid choice: 'tcsh'" in capsys.readouterr().err
