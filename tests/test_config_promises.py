"""[sla.NAME] and [workflows.NAME]: what they mean, and what is said of one that cannot be meant."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fmedge.config import Config, SlaConfig, WorkflowConfig, load_config, settings
from fmedge.config import load as load_module
from fmedge.config.promises import check_class
from fmedge.errors import ConfigError
from fmedge.types import Promise, WorkflowSettings

KEYS = "[server]\napi_key_file = 'keys'\n"
CLASS = "[sla.a]\nttft_ms = 500\n"


def load(folder: Path, text: str, **fields: object) -> Config:
    file = folder / "fmedge.toml"
    file.write_text(text)
    return load_config(str(file), **{"environ": {}, **fields})  # type: ignore[arg-type]


def test_a_class_in_seconds(tmp_path: Path) -> None:
    text = """
    [server]
    api_key_file = "keys"
    default_sla = "slow"
    [[model]]
    model = "x.gguf"
    name = "chat"
    aliases = ["gpt"]
    [sla.interactive]
    ttft_ms = 500
    tpot_ms = 80.5
    e2e_ms = 30_000
    target = 0.95
    on_miss = "refuse"
    weight = 2
    keys = ["editor"]
    models = ["gpt"]
    service_tiers = ["priority", "fast"]
    [sla.slow]
    e2e_ms = 600000
    """
    loaded = load(tmp_path, text)
    sla = loaded.sla["interactive"]
    assert sla.promise("interactive") == Promise(
        sla_class="interactive", ttft_s=0.5, tpot_s=0.0805, e2e_s=30.0, target=0.95,
        on_miss="refuse", weight=2.0,
    )  # fmt: skip
    assert (sla.keys, sla.models, sla.service_tiers) == (
        ("editor",), ("gpt",), ("priority", "fast")
    )  # fmt: skip
    assert loaded.sla["slow"].promise("slow") == Promise(sla_class="slow", e2e_s=600.0)
    assert loaded.server.default_sla == "slow"
    assert loaded.sources["sla.slow.e2e_ms"].endswith("[sla.slow] e2e_ms")


def test_a_workflow_in_seconds(tmp_path: Path) -> None:
    text = "[workflows.research]\ne2e_ms = 9000\non_miss = 'refuse'\nidle_s = 5\n[workflows.watch]"
    workflows = load(tmp_path, text).workflows
    assert workflows["research"].settings("research") == WorkflowSettings(
        name="research", e2e_s=9.0, on_miss="refuse", idle_s=5.0
    )
    assert workflows["watch"].settings("watch") == WorkflowSettings(name="watch")


def test_nothing_is_promised_by_default() -> None:
    loaded = load_config(environ={})
    assert (loaded.sla, loaded.workflows, loaded.server.default_sla) == ({}, {}, "")
    assert loaded.server.policy == "fmedge"


@pytest.mark.parametrize("section", ["sla", "workflows"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "> 0.0"),
        ("-1", "> 0.0"),
        ("-inf", "> 0.0"),
        ("nan", "> 0.0"),
        ("inf", "<= 86400000.0"),
        ("1e300", "<= 86400000.0"),
        ("'500'", "expected float, got str"),
        ("true", "expected float, got bool"),
        ("[1]", "expected float, got array"),
        ("1979-05-27", "expected float"),
    ],
)
def test_times_that_are_none(tmp_path: Path, section: str, value: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[{section}.a]\ne2e_ms = {value}\n")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/fmedge.toml: [{section}.a] e2e_ms: "), message
    assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sla.a]\n", ["[sla.a]: promises nothing", "ttft_ms or e2e_ms"]),
        ("[sla.a]\nweight = 2\n", ["[sla.a]: promises nothing"]),
        ("[sla.a]\ntpot_ms = 50\n", ["[sla.a]: tpot_ms alone", "ttft_ms or e2e_ms"]),
        ("[sla.a]\nttft_ms = 9\ne2e_ms = 8\n", ["[sla.a]: ttft_ms = 9", "e2e_ms = 8", "raise"]),
        ("[sla.a]\ntpot_ms = 9\ne2e_ms = 8\n", ["[sla.a]: tpot_ms = 9", "e2e_ms = 8"]),
        (CLASS + "target = 0\n", ["[sla.a] target", "> 0.0"]),
        (CLASS + "target = 1\n", ["[sla.a] target", "< 1.0"]),
        (CLASS + "target = 90\n", ["[sla.a] target", "< 1.0"]),
        (CLASS + "target = nan\n", ["[sla.a] target"]),
        (CLASS + "weight = 0\n", ["[sla.a] weight", "> 0.0"]),
        (CLASS + "weight = inf\n", ["[sla.a] weight"]),
        (CLASS + "on_miss = 'drop'\n", ["on_miss", "'drop'", "best_effort, refuse"]),
        (CLASS + "ttft_s = 1\n", ["[sla.a]: unknown key 'ttft_s'", "did you mean 'ttft_ms'"]),
        (CLASS + "zzz = 1\n", ["unknown key 'zzz'", "known are ttft_ms, tpot_ms"]),
        (CLASS + "port = 1\n", ["unknown key 'port'", "belongs to [server]"]),
        (CLASS + "keys = 'x'\n", ["[sla.a] keys", "expected array"]),
        (CLASS + "keys = ['']\n", ["[sla.a] keys", "length >= 1"]),
        (CLASS + "keys = ['x']\n", ["[sla.a] keys", "no API keys", "api_key_file"]),
        (CLASS + "service_tiers = ['prioritys']\n", ["'prioritys'", "did you mean 'priority'"]),
        (CLASS + "service_tiers = [1]\n", ["[sla.a] service_tiers"]),
        ("[sla]\nttft_ms = 5\n", ["[sla] ttft_ms", "[sla.NAME]"]),
        ("sla = 5\n", ["sla must be tables", "[sla.NAME]"]),
        ("[[sla]]\nttft_ms = 5\n", ["sla must be tables", "[sla.NAME]"]),
        ("[slas.a]\nttft_ms = 5\n", ["'slas'", "did you mean 'sla'"]),
        ('[sla."a b"]\nttft_ms = 5\n', ["'a b' is no name"]),
        ('[sla.""]\nttft_ms = 5\n', ["'' is no name"]),
        ('[sla."grün"]\nttft_ms = 5\n', ["is no name"]),
        (f"[sla.{'x' * 65}]\nttft_ms = 5\n", ["is no name", "at most 64"]),
        ("[sla.gpt-4.1]\nttft_ms = 5\n", ["[sla.gpt-4]", '[sla."gpt-4.1"]']),
        ("[server]\ndefault_sla = 'a'\n", ["[server] default_sla", "no class 'a'", "[sla.NAME]"]),
        (
            "[server]\ndefault_sla = 'interactve'\n[sla.interactive]\nttft_ms = 1\n",
            ["no class 'interactve'", "did you mean 'interactive'"],
        ),
        (
            KEYS + CLASS + "keys = ['k']\n[sla.b]\nttft_ms = 1\nkeys = ['k']\n",
            ["[sla.b] keys: 'k' is in [sla.a] too"],
        ),
        (
            CLASS + "service_tiers = ['flex']\n[sla.b]\ne2e_ms = 1\nservice_tiers = ['flex']\n",
            ["[sla.b] service_tiers: 'flex' is in [sla.a] too"],
        ),
        (
            CLASS + "models = ['chatt']\n[[model]]\nmodel = 'm'\nname = 'chat'\n",
            ["[sla.a] models: no model is called 'chatt'", "did you mean 'chat'"],
        ),
        (CLASS + "models = ['chat']\n", ["no model is called 'chat'", "[[model]]"]),
        ("[workflows.a]\ntarget = 0.5\n", ["[workflows.a]: target without e2e_ms"]),
        ("[workflows.a]\non_miss = 'refuse'\nweight = 2\n", ["on_miss, weight without e2e_ms"]),
        ("[workflows.a]\nidle_s = 0\n", ["[workflows.a] idle_s", "> 0.0"]),
        ("[workflows.a]\nidle_s = nan\n", ["[workflows.a] idle_s"]),
        ("[workflows.a]\nidle_ms = 5\n", ["unknown key 'idle_ms'", "did you mean 'idle_s'"]),
        ("[workflows.a]\nttft_ms = 5\n", ["[workflows.a]: unknown key 'ttft_ms'"]),
        ("[workflows]\ne2e_ms = 5\n", ["[workflows] e2e_ms", "[workflows.NAME]"]),
        ("[workflow.a]\ne2e_ms = 5\n", ["'workflow'", "did you mean 'workflows'"]),
        ("[server]\npolicy = 'round-robin'\n", ["'round-robin'", "did you mean 'round_robin'"]),
        ("[server]\nprofile = 'never'\n", ["'never'", "auto, prior"]),
        ('[server]\nstate_dir = "a\\u0000"\n', ["[server] state_dir", "zero byte"]),
        ("[server]\nstate_dir = 1\n", ["[server] state_dir", "expected str"]),
    ],
)
def test_what_cannot_be_meant_is_explained(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/fmedge.toml: "), message
    assert all(word in message for word in words), message


def test_default_class_from_a_flag_is_checked_and_named(tmp_path: Path) -> None:
    assert load(tmp_path, CLASS, flags={"default_sla": "a"}).server.default_sla == "a"
    with pytest.raises(ConfigError, match=r"^--default-sla: there is no class 'b'"):
        load(tmp_path, CLASS, flags={"default_sla": "b"})


def test_classes_of_models_that_are_not_served_this_time(tmp_path: Path) -> None:
    """--model narrows what a file says; a class of another of its models is no mistake then."""
    text = CLASS + "models = ['chat']\n[[model]]\nmodel = 'm'\nname = 'chat'\n"
    loaded = load(tmp_path, text, models=[{"model": "other.gguf"}])
    assert loaded.is_narrowed
    assert loaded.sla["a"].models == ("chat",)


def test_a_model_without_a_name_is_left_to_the_server(tmp_path: Path) -> None:
    text = CLASS + "models = ['org/repo']\n[[model]]\nmodel = 'hf:org/repo'\n"
    assert load(tmp_path, text).sla["a"].models == ("org/repo",)


def test_a_private_server_has_no_keys_and_may_read_the_same_file(tmp_path: Path) -> None:
    text = KEYS + CLASS + "keys = ['k']\n"
    assert load(tmp_path, text, flags={"api_key_file": ""}).sla["a"].keys == ("k",)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
    | st.sampled_from(["refuse", "priority", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)  # fmt: skip
_keys = st.sampled_from([s.key for s in settings("sla", "workflows")]) | st.text(max_size=6)


@hypothesis_settings(deadline=None)
@given(
    section=st.sampled_from(["sla", "workflows", "replica", "model"]),
    content=_values
    | st.dictionaries(st.text(max_size=4), st.dictionaries(_keys, _values, max_size=4))
    | st.lists(st.dictionaries(_keys | st.just("model"), _values, max_size=4), max_size=2),
)
def test_any_content_is_taken_or_explained(section: str, content: object) -> None:
    known = {s.key: s for s in settings("server", "defaults", "client")}
    layers = load_module._Layers()
    complaint = ""
    try:
        load_module._from_file(layers, {section: content}, Path("x.toml"), known)
    except ConfigError as error:
        complaint = str(error)
    assert not complaint or complaint.startswith("x.toml: ")
    for name, sla in layers.sla.items():
        promise = sla.promise(name)
        assert 0 < min(promise.ttft_s, promise.e2e_s) < math.inf
        assert 0 < promise.target < 1


@pytest.mark.parametrize(
    "value", ["1" * 5000, "0x" + "f" * 5000, "[" * 5000 + "]" * 5000], ids=["int", "hex", "nested"]
)
def test_values_beyond_all_sense(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"[sla.a]\nttft_ms = {value}\n")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/fmedge.toml: ")
    assert len(message) < 300


_times = st.none() | st.floats(0.001, 86_400_000.0, allow_nan=False)


@given(ttft_ms=_times, tpot_ms=_times, e2e_ms=_times)
def test_a_class_is_taken_just_when_it_can_be_meant(
    ttft_ms: float | None, tpot_ms: float | None, e2e_ms: float | None
) -> None:
    sla = SlaConfig(ttft_ms=ttft_ms, tpot_ms=tpot_ms, e2e_ms=e2e_ms)
    promise = sla.promise("a")
    can_be_meant = (
        min(promise.ttft_s, promise.e2e_s) < math.inf
        and (e2e_ms is None or ttft_ms is None or ttft_ms <= e2e_ms)
        and (e2e_ms is None or tpot_ms is None or tpot_ms <= e2e_ms)
    )
    if can_be_meant:
        check_class(sla, "here")
    else:
        with pytest.raises(ConfigError, match=r"^here: "):
            check_class(sla, "here")


def test_defaults_of_a_workflow_are_those_of_its_settings() -> None:
    assert WorkflowConfig().settings("w") == WorkflowSettings(name="w")
    assert SlaConfig().promise("") == Promise()
