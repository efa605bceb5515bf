"""`--sla`: which call gets which promise."""

from __future__ import annotations

from math import inf

import pytest

from fmedge.cli.slas import read_slas
from fmedge.cli.workload_options import _without_secrets
from fmedge.errors import ConfigError
from fmedge.sim.workload import Call, Workload
from fmedge.types import Promise, WorkflowSettings


def workload(*calls: Call, **fields: object) -> Workload:
    return Workload(source="", calls=calls, **fields)  # type: ignore[arg-type]


def call(**fields: object) -> Call:
    return Call(at_s=0.0, num_prompt=4, num_output=2, **fields)  # type: ignore[arg-type]


def test_one_promise_is_that_of_all() -> None:
    slas = read_slas(["ttft_ms=500,tpot_ms=50,target=0.95"])
    made = slas.applied(workload(call(), call()))
    assert [c.promise for c in made.calls] == [
        Promise(ttft_s=0.5, tpot_s=0.05, e2e_s=inf, target=0.95)
    ] * 2


def test_classes_have_their_shares_however_short_the_workload() -> None:
    slas = read_slas(["a:ttft_ms=500,share=0.5", "b:e2e_ms=9000,share=0.25"])
    made = slas.applied(workload(*(call() for _ in range(200))))
    for count in (20, 200):
        names = [c.promise.sla_class for c in made.calls[:count]]
        assert names.count("a") == pytest.approx(count / 2, abs=1)
        assert names.count("b") == pytest.approx(count / 4, abs=1)


def test_what_others_leave_is_shared_evenly() -> None:
    slas = read_slas(["a:ttft_ms=500,share=0.5", "b:e2e_ms=9000", "c:e2e_ms=90000"])
    assert slas.shares == {"a": 0.5, "b": 0.25, "c": 0.25}


def test_calls_that_have_a_promise_keep_it() -> None:
    own = Promise(sla_class="own", ttft_s=1.0)
    flows = {"w": WorkflowSettings(name="w", e2e_s=5.0), "v": WorkflowSettings(name="v")}
    made = read_slas(["ttft_ms=500"]).applied(
        workload(call(promise=own), call(workflow="w"), call(workflow="v"), workflows=flows)
    )
    assert [c.promise.ttft_s for c in made.calls] == [1.0, inf, 0.5]
    nothing = workload(call())
    assert read_slas([]).applied(nothing) is nothing


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["ttft_ms"], "expected KEY=VALUE"),
        (["ttft_ms=5,ttft_ms=6"], "each once"),
        (["ttft_ms=x"], "ttft_ms"),
        (["a b:ttft_ms=5"], "is no name"),
        (["ttft_ms=90,e2e_ms=50"], "e2e_ms"),
        (["a:ttft_ms=5,share=0.7", "b:ttft_ms=5,share=0.7"], "add up to 1.4"),
        (["ttft_ms=5,share=0"], "share"),
        (["ttft_ms=5,share=nan"], "share"),
    ],
)
def test_what_is_no_promise(texts: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_slas(texts)


def test_secrets_are_not_kept() -> None:
    words = ["bench", "--api-key", "sesame", "--header=x:sesame", "--headers", "y: sesame",
             "--api", "sesame", "--head", "z: sesame"]  # fmt: skip
    shown = _without_secrets([*words, "--rate", "5"])
    assert "sesame" not in " ".join(shown)
    assert shown[-2:] == ["--rate", "5"]
