"""`fmedge bench --workload` against a scripted server: what it sends, keeps and says."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fmedge.cli import main
from fmedge.sim.run_file import read_run
from tests.cli.fake_openai import FakeServer, document, last, piece, whole_stream

SPEC = "uniform:rate=200,requests=12,prompt=24,output=5"


class Model:
    """A fmedge, or some other server, that gives each answer at once."""

    def __init__(self, *, is_fmedge: bool = True, classes: Iterable[str] = ()) -> None:
        self._owner = "fmedge" if is_fmedge else "somebody"
        self._classes = set(classes)
        self.server = FakeServer(self)
        self.has_begun = asyncio.Event()

    def __call__(self, path: str, body: dict[str, Any]) -> list[bytes | None]:
        if path == "/v1/models":
            card: dict[str, Any] = {"id": "chat", "owned_by": self._owner}
            if self._owner == "fmedge":
                card |= {"meta": {"n_ctx": 1024, "n_vocab": 2000}, "aliases": ["other"]}
            return [document(200, {"data": [card]})]
        if path == "/v1/estimate":
            name = self.server.asked[-1][2].get("x-fmedge-sla")
            if name is None or name in self._classes:
                return [document(200, {})]
            return [document(400, {"error": {"code": "unknown_sla_class"}})]
        if len(self.calls) > 5:
            self.has_begun.set()
        size = body.get("seed", 1_000_000_000) - 1_000_000_000 or body["max_tokens"]
        prompt = len(body["prompt"]) if "prompt" in body else 9
        return [whole_stream([piece("x")] * size + [last(prompt, size)])]

    @property
    def calls(self) -> list[tuple[dict[str, Any], dict[str, str]]]:
        """Bodies and headers of what was generated, but for the warm-up."""
        posts = [(body, fields) for path, body, fields in self.server.asked
                 if path.endswith("/completions")]  # fmt: skip
        return posts[1:]


async def bench(model: Model, *args: str, spec: str = SPEC) -> int:
    async with model.server.running() as server:
        words = ["bench", "--url", server.url, "--workload", spec, *args]
        return await asyncio.to_thread(main, words)


async def test_a_workload_is_played_and_kept(tmp_path: Path, capsys: Any) -> None:
    model, out = Model(), tmp_path / "run.json"
    code = await bench(model, "--sla", "ttft_ms=60000", "--out", str(out), "--label", "mine",
                       "--seed", "3")  # fmt: skip
    said = capsys.readouterr().out
    assert code == 0
    assert "12 of 12 held (100.0 %)" in said
    run = read_run(out)
    assert (run.kind, run.label, run.ended, run.seed) == ("measured", "mine", "", 3)
    assert run.summary.attainment == 1.0
    assert [row.num_tokens for row in run.rows] == [5] * 12
    assert run.workload.calls[0].promise.ttft_s == 60.0
    assert run.options["workload"] == SPEC
    for body, fields in model.calls:
        assert len(body["prompt"]) == 24
        assert all(0 <= token < 2000 for token in body["prompt"])
        assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("chat", 5, True)
        assert float(fields["x-fmedge-slo-ttft-ms"]) == 60000.0


async def test_prompts_are_new_to_the_server_unless_told_otherwise() -> None:
    """A server that has seen them would answer from its cache."""
    sent = []
    for args in ([], [], ["--prompt-seed", "4"], ["--prompt-seed", "4"]):
        model = Model()
        await bench(model, *args)
        sent.append(sorted(body["prompt"] for body, _ in model.calls))
    assert sent[2] == sent[3]
    assert len({str(prompts) for prompts in sent}) == 3
    assert len({tuple(prompt) for prompt in sent[0]}) == 12


async def test_other_servers_get_no_headers_of_ours() -> None:
    model = Model(is_fmedge=False)
    code = await bench(model, "--sla", "fast:ttft_ms=60000", "--lengths", "emulated",
                       "--header", "x-tenant: blue", "--api-key", "sesame")  # fmt: skip
    assert code == 0
    assert len(model.calls) == 12
    for body, fields in model.calls:
        assert not [name for name in fields if name.startswith("x-fmedge")]
        assert (fields["x-tenant"], fields["authorization"]) == ("blue", "bearer sesame")
        assert body["seed"] == 1_000_000_005
        assert "ignore_eos" not in body
        assert body["max_tokens"] == 8  # else they would end after 16, or less


async def test_a_fmedge_is_told_classes_that_it_has(capsys: Any) -> None:
    model = Model(classes=["fast"])
    await bench(model, "--sla", "fast:ttft_ms=60000,share=0.5", "--sla", "slow:e2e_ms=90000",
                "--lengths", "emulated")  # fmt: skip
    named = [fields.get("x-fmedge-sla") for _, fields in model.calls]
    assert named.count("fast") == 6
    assert set(named) == {"fast", None}
    assert all("max_tokens" not in body for body, _ in model.calls)
    assert "no [sla.slow]" in capsys.readouterr().err


async def test_tasks_are_told_to_a_fmedge(tmp_path: Path) -> None:
    path = tmp_path / "tasks.toml"
    path.write_text("""
[[workflow]]
name = "agent"
rate_per_s = 100
requests = 3
e2e_ms = 60000
[[workflow.stage]]
name = "plan"
prompt_tokens = 20
output_tokens = 4
[[workflow.stage]]
name = "act"
after = ["plan"]
prompt_tokens = 20
output_tokens = 4
tool_s = 0.01
""")
    model, out = Model(), tmp_path / "run.json"
    assert await bench(model, "--out", str(out), spec=str(path)) == 0
    fields = [fields for _, fields in model.calls]
    assert [f["x-fmedge-stage"] for f in fields].count("plan") == 3
    assert len({f["x-fmedge-workflow-id"] for f in fields}) == 3
    for f in fields:
        assert 0 < float(f["x-fmedge-deadline-ms"]) <= 60000
    assert read_run(out).summary.workflows["agent"].num_held == 3


async def test_words_for_a_chat() -> None:
    model = Model()
    assert await bench(model, "--endpoint", "chat", "--warmup", "0") == 0
    texts = [body["messages"][0]["content"] for body, _ in model.calls if "messages" in body]
    assert len(texts[-1].split()) == 24


async def test_the_first_seconds_do_not_count(tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    await bench(Model(), "--warmup-s", "0.03", "--out", str(out))
    run = read_run(out)
    assert len(run.rows) == 12
    assert run.summary.num_calls == 6  # at 0.03 s and later, of one each 5 ms


def test_reports_and_their_files(tmp_path: Path, capsys: Any) -> None:
    page, out, picture = (str(tmp_path / name) for name in ("r.html", "r.json", "r.png"))
    args = ["--sla", "ttft_ms=60000", "--report", page, "--out", out, "--label", "<b>x"]
    asyncio.run(bench(Model(), *args))
    text = Path(page).read_text()
    assert "&lt;b&gt;x" in text
    assert "<b>x" not in text
    assert "<svg" in text
    assert not re.search(r"(src|href)=.https?:", text)
    assert main(["bench", "report", out, out, "--out", picture]) == 0
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    capsys.readouterr()
    assert main(["bench", "diff", out, out, "--metric", "ttft_p50"]) == 1
    assert "too few" in capsys.readouterr().err


async def test_json_is_the_run(capsys: Any) -> None:
    assert await bench(Model(), "--json") == 0
    read = json.loads(capsys.readouterr().out)
    assert read["summary"]["counts"] == {"ok": 12}
    assert len(read["rows"]) == 12


async def test_calls_longer_than_the_context_are_told_before(capsys: Any) -> None:
    model = Model()
    assert await bench(model, spec="uniform:rate=9,requests=3,prompt=1100,output=5") == 2
    assert "--longest 1024" in capsys.readouterr().err
    assert model.calls == []


async def test_refusals_are_no_failure_of_the_command_and_failures_are(capsys: Any) -> None:
    class Refusing(Model):
        status = 429

        def __call__(self, path: str, body: dict[str, Any]) -> list[bytes | None]:
            if path == "/v1/completions":
                return [document(self.status, {"error": {"message": "no"}})]
            return super().__call__(path, body)

    assert await bench(Refusing()) == 0
    assert "12 refused" in capsys.readouterr().out
    failing = Refusing()
    failing.status = 500
    assert await bench(failing) == 1
    assert "12 x http_500" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--workload", "nowhere.csv"], "nowhere.csv"),
        (["--workload", SPEC, "--prompt-tokens", "5"], "--prompt-tokens means nothing"),
        (["--sla", "ttft_ms=5"], "--sla needs --workload"),
        (["--workload", SPEC, "--sla", "ttft=5"], "KEY=VALUE"),
        (["--workload", SPEC, "--sla", "ttft_ms=-5"], "ttft_ms"),
        (["--workload", SPEC, "--sla", "tpot_ms=5"], "tpot_ms alone"),
        (["--workload", SPEC, "--sla", "a:ttft_ms=5", "--sla", "a:e2e_ms=9"], "twice"),
        (["--workload", SPEC, "--sla", "ttft_ms=5,share=2"], "share"),
        (["--workload", SPEC, "--header", "no colon"], "NAME:VALUE"),
        (["--workload", SPEC, "--report", "x.txt"], ".html"),
        (["--workload", SPEC, "--report", "/nowhere/x.html"], "no such folder"),
        (["--workload", SPEC, "--out", "/nowhere/x.json"], "no such folder"),
        (["--workload", SPEC, "--scale", "0"], "more than 0"),
    ],
)
def test_wrong_usage(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--url", "http://127.0.0.1:9", *args]) == 2
    assert words in capsys.readouterr().err


async def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    model, out = Model(), tmp_path / "run.json"
    async with model.server.running() as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fmedge", "bench", "--url", server.url, "--out", str(out),
            "--workload", "uniform:rate=20,requests=2000,prompt=9,output=3",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            await model.has_begun.wait()
            process.send_signal(signal.SIGINT)
            said, errors = await process.communicate()
    assert process.returncode == 130
    assert b"PARTIAL        interrupted" in said
    assert b"Traceback" not in errors
    run = read_run(out)
    assert run.ended == "interrupted"
    assert run.summary.num_held == 0
    assert run.summary.counts["ok"] >= 4
    assert run.summary.num_calls < 100
