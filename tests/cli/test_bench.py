"""`fmedge bench`: what it sends and how it sums up."""

from __future__ import annotations

import asyncio
import json
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmedge.cli import main
from fmedge.cli.bench_connection import Outcome
from fmedge.cli.bench_prompts import Workload, bodies
from fmedge.cli.bench_report import percentile, report, table
from tests.cli.fake_openai import FakeServer, document, last, piece, whole_stream


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 100))
def test_percentile_is_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(np.percentile(values, percent))


def outcome(index: int, start_s: float, times_s: list[float], **fields: Any) -> Outcome:
    made = Outcome(index=index, arrival_s=start_s, end_s=times_s[-1] + 0.1, times_s=array("d"))
    made.times_s.extend(times_s)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_report_of_a_known_run() -> None:
    result = report([
        outcome(0, 0.0, [0.5, 0.6, 0.9], num_output_tokens=5, num_prompt_tokens=10),
        outcome(1, 1.0, [1.1, 1.2], num_prompt_tokens=20, num_cached_tokens=8),
        outcome(2, 1.0, [1.9], error="timeout", detail="late"),
    ])  # fmt: skip
    assert (result.num_requests, result.num_ok, result.errors) == (3, 2, {"timeout": 1})
    assert result.duration_s == pytest.approx(2.0)
    assert (result.num_output_tokens, result.num_prompt_tokens) == (7, 30)
    assert result.output_tokens_per_s == pytest.approx(3.5)
    assert result.ttft_ms is not None
    assert result.tpot_ms is not None
    assert result.inter_token_ms is not None
    assert result.e2e_ms is not None
    assert (result.ttft_ms.max, result.ttft_ms.mean) == pytest.approx((500, 300))
    assert result.tpot_ms.p50 == pytest.approx(100)  # (0.9 - 0.5) / 4 and (1.2 - 1.1) / 1
    assert result.inter_token_ms.max == pytest.approx(300)
    assert result.e2e_ms.max == pytest.approx(1000)
    text = table(result)
    assert "2 of 3 ok" in text
    assert "1 x timeout: late" in text


def test_report_of_nothing() -> None:
    result = report([])
    assert result.ttft_ms is None
    assert "0 of 0 ok" in table(result)


def test_bodies_share_their_prefix_and_nothing_else() -> None:
    workload = Workload(
        model="m", num_requests=4, prompt_tokens=20, shared_prefix_tokens=15, style="tokens",
        output_tokens=3, temperature=0.5, ignore_eos=True, extra={"top_k": 4},
    )  # fmt: skip
    made = bodies(workload)
    prompts = [tuple(body["prompt"]) for body in made]
    assert len({p[:15] for p in prompts}) == 1
    assert len({p[15:] for p in prompts}) == 4
    assert all(len(p) == 20 and min(p) >= 1000 and max(p) < 30000 for p in prompts)
    assert made[0] | {"prompt": 0} == {
        "model": "m", "max_tokens": 3, "stream": True, "stream_options": {"include_usage": True},
        "prompt": 0, "temperature": 0.5, "ignore_eos": True, "top_k": 4,
    }  # fmt: skip
    assert bodies(workload) == made


def test_text_prompts_are_sized_by_what_a_word_costs() -> None:
    workload = Workload(
        model="m", num_requests=1, prompt_tokens=110, endpoint="chat", words_per_token=0.5,
        overhead_tokens=10,
    )  # fmt: skip
    (body,) = bodies(workload)
    assert len(body["messages"][0]["content"].split()) == 50


class CountingModel:
    """Answers as a tokenizer would that makes 2 tokens of a word and 5 of the template."""

    def __call__(self, path: str, body: dict[str, Any]) -> list[bytes]:
        if path == "/v1/models":
            return [document(200, {"data": [{"id": "the-model"}]})]
        words = len(body["messages"][0]["content"].split())
        size = body["max_tokens"]
        return [whole_stream([piece("x")] * size + [last(2 * words + 5, size)])]


async def test_the_verb_sizes_warms_up_and_reports(capsys: pytest.CaptureFixture[str]) -> None:
    args = ["--requests", "6", "--concurrency", "2", "--prompt-tokens", "65", "--json"]
    args += ["--output-tokens", "4", "--endpoint", "chat"]
    async with FakeServer(CountingModel()).running() as server:
        code = await asyncio.to_thread(main, ["bench", "--url", server.url, *args])
    result = json.loads(capsys.readouterr().out)
    assert code == 0
    assert result["num_ok"] == 6
    assert result["num_prompt_tokens"] == 6 * 65
    assert result["num_output_tokens"] == 24
    posts = [body for path, body, _ in server.asked if path != "/v1/models"]
    assert {body["model"] for body in posts} == {"the-model"}
    assert len(posts) == 2 + 1 + 6  # two to size the prompts, one to warm up


async def test_the_verb_fails_when_a_request_did(capsys: pytest.CaptureFixture[str]) -> None:
    refusal = document(429, {"error": {"message": "no"}})
    args = ["--model", "m", "--prompt-style", "tokens", "--requests", "2", "--warmup", "0"]
    async with FakeServer(lambda *_: [refusal]).running() as server:
        code = await asyncio.to_thread(main, ["bench", "--url", server.url, *args])
    assert code == 1
    assert "2 x http_429" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "--url"),
        (["--url", "http://x", "--prompt-style", "tokens", "--endpoint", "chat"], "completions"),
        (["--url", "http://x", "--requests", "0"], "at least 1"),
        (["--url", "http://x", "--extra", "[]"], "JSON object"),
        (["--url", "http://x", "--token-range", "9:3"], "LOW:HIGH"),
        (["--url", "gopher://x"], "not an http"),
    ],
)
def test_wrong_usage(args: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *args]) == 2
    assert words in capsys.readouterr().err
