"""Bodies, headers and classes to promises; what is wrong is said by its name."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.errors import RequestError
from fmedge.http.estimate_headers import DESCRIPTIONS as RESPONSE_HEADERS
from fmedge.http.promises import HEADERS, Promises, Terms
from fmedge.http.schemas import Sla
from fmedge.http.settings import HttpSettings
from fmedge.sched.forecast import length_keys
from fmedge.types import BEST_EFFORT, Promise, WorkflowCall, WorkflowSettings

INTERACTIVE = Promise(
    sla_class="interactive", ttft_s=0.5, tpot_s=0.05, e2e_s=10.0, on_miss="refuse", weight=2.0
)
BATCH = Promise(sla_class="batch", e2e_s=600.0)
QUICK = Promise(sla_class="quick", ttft_s=0.1)
SETTINGS = HttpSettings(
    sla_classes={"interactive": INTERACTIVE, "batch": BATCH, "quick": QUICK},
    class_of_tier={"priority": "quick"},
    class_of_key={"ann": "interactive"},
    class_of_model={"small": "quick"},
    default_class="batch",
    workflows={"triage": WorkflowSettings(name="triage", e2e_s=30.0)},
)
CALL = {"x-fmedge-workflow": "triage", "x-fmedge-workflow-id": "run-1"}


class Request(dict[object, str]):
    """As much of a web.Request as is looked at."""

    def __init__(self, headers: dict[str, str] | list[tuple[str, str]], key: str = "") -> None:
        super().__init__({"key_id": key} if key else {})
        pairs = headers.items() if isinstance(headers, dict) else headers
        self.raw_headers = tuple(
            (name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in pairs
        )

    def get(self, key, default=None):  # type: ignore[no-untyped-def]
        return super().get("key_id", default)


def terms(
    headers: dict[str, str] | list[tuple[str, str]] = (),  # type: ignore[assignment]
    *,
    key: str = "",
    model: str = "large",
    settings: HttpSettings = SETTINGS,
    **body: object,
) -> Terms:
    request = Request(headers or {}, key)
    return Promises(settings).terms(request, model, **body)  # type: ignore[arg-type]


def refused(headers: dict[str, str] | list[tuple[str, str]] = (), **body: object) -> RequestError:  # type: ignore[assignment]
    with pytest.raises(RequestError) as caught:
        terms(headers, **body)  # type: ignore[arg-type]
    return caught.value


def test_without_classes_and_headers_everything_is_best_effort():
    assert terms(settings=HttpSettings()) == (BEST_EFFORT, None)
    assert terms({"Accept": "x", "X-Request-Id": "7"}, settings=HttpSettings()).promise == (
        BEST_EFFORT
    )


def test_the_class_is_the_most_particular_ones():
    assert terms().promise is BATCH
    assert terms(model="small").promise is QUICK
    assert terms(model="small", key="ann").promise is INTERACTIVE
    assert terms(model="small", key="ann", tier="priority").promise is QUICK
    assert terms(key="bob", tier="flex").promise is BATCH
    assert terms({"x-fmedge-sla": "batch"}, key="ann", tier="priority").promise is BATCH
    sla = Sla(sla_class="interactive")
    assert terms({"x-fmedge-sla": "batch"}, sla=sla, tier="priority").promise is INTERACTIVE


@pytest.mark.parametrize("name", ["x-fmedge-slo-ttft-ms", "X-Llm-D-Slo-Ttft-Ms"])
def test_body_wins_over_header_over_class(name: str):
    assert terms({name: "300"}, key="ann").promise == Promise(
        sla_class="interactive", ttft_s=0.3, tpot_s=0.05, e2e_s=10.0, on_miss="refuse", weight=2.0
    )
    sla = Sla(ttft_ms=200, e2e_ms=4000.5)
    promise = terms({name: "300", "x-fmedge-slo-tpot-ms": "12.5"}, key="ann", sla=sla).promise
    assert (promise.ttft_s, promise.tpot_s, promise.e2e_s) == (0.2, 0.0125, 4.0005)
    assert promise.sla_class == "interactive"


def test_limits_without_a_class():
    settings = HttpSettings()
    headers = {"x-fmedge-slo-tpot-ms": "1e2", "x-llm-d-slo-ttft-ms": "1"}
    promise = terms(headers, settings=settings).promise
    assert promise == Promise(ttft_s=0.001, tpot_s=0.1)
    assert terms(sla=Sla(), settings=settings).promise == BEST_EFFORT


@pytest.mark.parametrize(
    "value", ["0", "-1", "nan", "inf", "", " ", "0x10", "1_000", "5 s", "1e-400", "1e400", "1e10",
              "\u0665", "\udcff", "9" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("name", ["x-fmedge-slo-e2e-ms", "x-llm-d-slo-tpot-ms"])
def test_numbers_that_promise_nothing_sensible(name: str, value: str):
    error = refused({name: value})
    assert error.param == name
    assert name in str(error)
    assert "milliseconds" in str(error)
    assert len(str(error)) < 500


@given(st.floats(min_value=1e-300, max_value=1e9))
def test_any_number_in_range_is_taken_as_it_is(milliseconds: float):
    promise = terms({"x-fmedge-slo-e2e-ms": repr(milliseconds)}, settings=HttpSettings()).promise
    assert promise.e2e_s == milliseconds / 1e3


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_an_error(text: str):
    headers = {"x-fmedge-slo-e2e-ms": text}
    try:
        promise = terms(headers, settings=HttpSettings()).promise
    except RequestError:
        assert refused(headers).param == "x-fmedge-slo-e2e-ms"
    else:
        assert 0 < promise.e2e_s < inf
        assert promise.e2e_s == float(text) / 1e3


def test_contradictions_name_both_sides():
    error = refused({"x-fmedge-slo-e2e-ms": "400"}, sla=Sla(ttft_ms=500))
    assert error.param == "sla.ttft_ms"
    assert "`sla.ttft_ms`" in str(error)
    assert "`x-fmedge-slo-e2e-ms`" in str(error)
    error = refused({"x-fmedge-slo-e2e-ms": "400"}, key="ann")
    assert error.param == "x-fmedge-slo-e2e-ms"
    assert "class `interactive`" in str(error)
    same = {"x-fmedge-slo-ttft-ms": "5", "x-llm-d-slo-ttft-ms": "5.0"}
    assert terms(same).promise.ttft_s == 0.005
    error = refused(same | {"x-llm-d-slo-ttft-ms": "6"})
    assert "x-llm-d-slo-ttft-ms" in str(error)
    assert "x-fmedge-slo-ttft-ms" in str(error)
    error = refused([("x-fmedge-sla", "batch"), ("X-Fmedge-Sla", "quick")])
    assert "twice" in str(error)
    assert terms([("x-fmedge-sla", "batch"), ("X-Fmedge-Sla", "batch")]).promise is BATCH


def test_unknown_classes_name_the_nearest():
    error = refused({"x-fmedge-sla": "interactiv"})
    assert (error.param, error.code) == ("x-fmedge-sla", "unknown_sla_class")
    assert "`interactive`" in str(error)
    error = refused(sla=Sla(sla_class="zzz"))
    assert error.param == "sla.class"
    assert "`quick`" in str(error)
    assert refused(sla=Sla(sla_class=""), settings=HttpSettings()).param == "sla.class"


def test_a_typing_error_in_a_header_is_no_missing_promise():
    error = refused({"x-fmedge-slo-ttft": "500"})
    assert error.code == "unknown_parameter"
    assert "`x-fmedge-slo-ttft-ms`" in str(error)
    # What others call theirs, and what our own answers carry, says nothing.
    headers = {"x-llm-d-objective": "a", "x-fmedge": "1", "x-gateway": "b"}
    ours = {str(name): "1" for name in RESPONSE_HEADERS if name not in HEADERS}
    assert terms(headers | ours).promise is BATCH


def test_a_workflow_call():
    assert terms(CALL).workflow == WorkflowCall(workflow="triage", instance="run-1")
    full = CALL | {
        "x-fmedge-stage": "plan ä", "x-fmedge-deadline-ms": "2500", "x-fmedge-workflow-last": "1",
    }  # fmt: skip
    assert terms(full).workflow == WorkflowCall(
        workflow="triage", instance="run-1", stage="plan ä", deadline_s=2.5, is_last=True
    )
    assert terms(CALL | {"x-fmedge-workflow-last": "0"}).workflow == terms(CALL).workflow
    assert terms(CALL, key="ann").promise is INTERACTIVE


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"x-fmedge-workflow": None}, "x-fmedge-workflow"),
        ({"x-fmedge-workflow": "triag"}, "x-fmedge-workflow"),
        ({"x-fmedge-workflow": ""}, "x-fmedge-workflow"),
        ({"x-fmedge-workflow-id": None}, "x-fmedge-workflow-id"),
        ({"x-fmedge-workflow-id": ""}, "x-fmedge-workflow-id"),
        ({"x-fmedge-workflow-id": "a" * 257}, "x-fmedge-workflow-id"),
        ({"x-fmedge-workflow-id": "a\x07b"}, "x-fmedge-workflow-id"),
        ({"x-fmedge-workflow-id": "a\tb"}, "x-fmedge-workflow-id"),
        ({"x-fmedge-workflow-id": "\udcff"}, "x-fmedge-workflow-id"),
        ({"x-fmedge-stage": "\u202e"}, "x-fmedge-stage"),
        ({"x-fmedge-deadline-ms": "-5"}, "x-fmedge-deadline-ms"),
        ({"x-fmedge-workflow-last": "yes"}, "x-fmedge-workflow-last"),
    ],
)
def test_workflow_headers_that_do_not_fit(change: dict[str, str | None], param: str):
    headers = {name: value for name, value in (CALL | change).items() if value is not None}
    error = refused(headers)
    assert error.param == param
    assert f"`{param}`" in str(error)


def test_lengths_are_learned_from_the_particular_to_the_coarse():
    call = WorkflowCall(workflow="triage", instance="1", stage="plan")
    keys = length_keys("m", 100, api_key_id="ann", form="tools", workflow=call)
    assert keys == ("stage triage/plan", "key ann m tools 7", "form m tools 7", "model m")
    plain = length_keys("m", 100, api_key_id="ann", form="", workflow=None)
    assert len(plain) == 3
    assert plain[0] != keys[1]
    assert plain[-1] == keys[-1]
    same = length_keys("m", 127, api_key_id="ann", form="", workflow=None)
    assert same == plain != length_keys("m", 128, api_key_id="ann", form="", workflow=None)
