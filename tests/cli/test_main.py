"""The command as a whole: start-up cost, exit codes, one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fmedge
from fmedge import cli
from fmedge.cli import main, options
from fmedge.errors import FmedgeError

ROOT = Path(__file__).resolve().parents[2]


def run(*args: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code] if code else [sys.executable, "-m", "fmedge", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


def test_help_lists_every_verb_and_imports_none() -> None:
    code = (
        "import sys; from fmedge.cli import main; main(['--help']);"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in"
        " ('aiohttp', 'msgspec', 'jinja2', 'huggingface_hub', 'numpy', 'cffi', 'asyncio')))"
    )
    done = run(code=code)
    assert done.stdout.rstrip().endswith("[]"), done.stdout
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: fmedge {verb}" in capsys.readouterr().out


def test_python_m_fmedge_is_the_command() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"fmedge {fmedge.__version__}\n")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["srve"], "did you mean 'serve'?"),
        (["qqqq"], "there is no verb 'qqqq'"),
        (["--frob"], "--frob"),
        (["serve", "--frob"], "fmedge serve --help"),
        (["serve", "--alias", "x"], "--alias needs a --model"),
        (["serve", "--model", "x", "--port", "x"], "--port: expected int"),
        (["config", "check", "/nowhere.toml"], "/nowhere.toml"),
    ],
)
def test_usage_errors(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("fmedge: error: ")
    assert error.count("\n") == 1
    assert words in error


def test_no_verb_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "verbs:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (FmedgeError("one\ntwo"), 1, "fmedge: error: one two\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (ZeroDivisionError("oh"), 1, "internal error: ZeroDivisionError: oh\n"),
    ],
)
def test_exit_codes(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_dispatch", fail)
    assert main([]) == code
    assert capsys.readouterr().err.endswith(words)


def test_a_closed_pipe_is_quiet() -> None:
    code = "import sys, fmedge.cli; sys.exit(fmedge.cli.main(['version', '--json']))"
    command = f'{sys.executable} -c "{code}" | true'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""


def test_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fmedge"] == fmedge.__version__
    assert "commit" in facts["llama.cpp"]
    assert "CPU" in facts["devices"]


def test_aliases_belong_to_the_model_before_them() -> None:
    parser = cli.Parser()
    options.add_models(parser)
    args = parser.parse_args(
        ["--alias", "early", "--model", "a", "--model", "b", "--alias", "c", "--alias", "d"]
    )
    assert args.models == [
        {"model": "a", "aliases": ["early"]},
        {"model": "b", "aliases": ["c", "d"]},
    ]


def test_config_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FMEDGE_PROT", "1")
    file = tmp_path / "a.toml"
    file.write_text("[server]\nport = 1\n[[model]]\nmodel = 'hf:a/b'\nname = 'n'\n")
    assert main(["config", "check", str(file), "--slots", "3"]) == 0
    shown = capsys.readouterr()
    assert "server.port  from" in shown.out
    assert "defaults.slots  from --slots" in shown.out
    assert "OK, 1 model(s)" in shown.out
    assert "FMEDGE_PORT" in shown.err
    assert main(["config", "check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["name"] == "n"


def test_an_interrupt_during_the_imports_leaves_no_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'fmedge.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "from fmedge.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert (done.returncode, done.stderr) == (130, "")
