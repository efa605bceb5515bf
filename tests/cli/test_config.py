"""`fmedge config check`: what it says of classes, workflows and replicas."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fmedge.cli import main

TEXT = """
[server]
api_key_file = "keys"
default_sla = "report"
[[model]]
model = "x.gguf"
name = "chat"
[[replica]]
model = "chat"
name = "slow"
file = "hf:a/b:Q8_0"
threads = 1
[sla.interactive]
ttft_ms = 500
tpot_ms = 80
keys = ["editor"]
[sla.report]
e2e_ms = 60000
on_miss = "refuse"
[sla.named]
e2e_ms = 1
[workflows.research]
e2e_ms = 9000
[workflows.watched]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    keys.write_text("editor s3cret\n")
    keys.chmod(0o600)
    (tmp_path / "fmedge.toml").write_text(TEXT)
    return tmp_path / "fmedge.toml"


def test_what_it_says(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{file}: OK, 1 model(s)"
    assert "replica  slow  of chat  from hf:a/b:Q8_0  threads 1" in lines
    assert (
        "class  interactive  TTFT 500 ms  TPOT 80 ms  in 0.9 of cases, else best_effort  "
        "for editor" in lines
    )
    assert "class  report  end to end 60000 ms  in 0.9 of cases, else refuse  for all others" in (
        lines
    )
    assert any(line.endswith("for requests that name it") for line in lines)
    assert "workflow  research  end to end 9000 ms" in lines
    assert "workflow  watched  no promise" in lines
    assert f"sla.report.e2e_ms  from {file}: [sla.report] e2e_ms" in lines


def test_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--json", str(file), "--policy", "round_robin"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sla"]["interactive"]["ttft_ms"] == 500
    assert shown["sla"]["interactive"]["e2e_ms"] is None
    assert shown["workflows"]["research"]["e2e_ms"] == 9000
    assert shown["replicas"][0]["engine"] == {"threads": 1}
    assert shown["server"]["policy"] == "round_robin"
    assert "s3cret" not in json.dumps(shown)


def test_keys_are_looked_up_where_they_can_be(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TEXT.replace('"editor"', '"editr"'))
    for args in ([], ["--json"]):
        assert main(["config", "check", str(file), *args]) == 2
        shown = capsys.readouterr()
        assert shown.out.count("OK") == 0
        assert "[sla.interactive] keys" in shown.err
        assert "did you mean 'editor'" in shown.err
    (file.parent / "keys").unlink()
    assert main(["config", "check", str(file)]) == 0
    assert "were not checked" in capsys.readouterr().err
