"""Classes of service by key, model and tier, as the HTTP layer gets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmedge.config import Config, load_config
from fmedge.errors import ConfigError
from fmedge.http.settings import ApiKey
from fmedge.server.plan import ModelPlan, plan_models
from fmedge.server.promises import class_of_key, class_of_model, http_settings
from tests.synthetic import cached

KEYS = (ApiKey("editor", "s3cret"), ApiKey("batch", "other"))
HEAD = "[server]\napi_key_file = 'keys'\n"


def configured(folder: Path, text: str, **fields: object) -> tuple[Config, list[ModelPlan]]:
    file = folder / "fmedge.toml"
    file.write_text(text.replace("TINY", str(cached("tiny"))))
    config = load_config(str(file), **{"environ": {}, **fields})  # type: ignore[arg-type]
    return config, plan_models(config.models, config.replicas, is_narrowed=config.is_narrowed)


def test_everything_reaches_the_http_layer(tmp_path: Path) -> None:
    text = (
        HEAD + "default_sla = 'slow'\nmax_body_mib = 3\nisolate_cache_by_key = true\n"
        "[[model]]\nmodel = 'TINY'\nname = 'chat'\naliases = ['gpt']\n"
        "[sla.quick]\nttft_ms = 250\nkeys = ['editor']\nmodels = ['gpt']\n"
        "service_tiers = ['priority', 'fast']\n"
        "[sla.slow]\ne2e_ms = 60000\n"
        "[workflows.research]\ne2e_ms = 5000\n"
    )
    made = http_settings(*_in_order(configured(tmp_path, text)))
    assert made.api_keys == KEYS
    assert (made.max_body_bytes, made.isolate_cache_by_key) == (3 << 20, True)
    assert made.sla_classes["quick"].ttft_s == 0.25
    assert made.sla_classes["slow"].e2e_s == 60.0
    assert made.class_of_key == {"editor": "quick"}
    assert made.class_of_model == {"chat": "quick"}
    assert made.class_of_tier == {"priority": "quick", "fast": "quick"}
    assert made.default_class == "slow"
    assert made.workflows["research"].e2e_s == 5.0


def _in_order(
    made: tuple[Config, list[ModelPlan]],
) -> tuple[Config, tuple[ApiKey, ...], list[ModelPlan]]:
    return made[0], KEYS, made[1]


def test_keys_by_their_names_alone(tmp_path: Path) -> None:
    def of(key: str, keys: tuple[ApiKey, ...] = KEYS) -> dict[str, str]:
        text = HEAD + f"[sla.a]\nttft_ms = 1\nkeys = ['{key}']\n"
        return class_of_key(configured(tmp_path, text)[0], keys)

    assert of("batch") == {"batch": "a"}
    assert of("batch", ()) == {}  # a private server asks for none
    with pytest.raises(ConfigError, match=r"\[sla\.a\] keys: .*keys has no key called 'editr'"):
        of("editr")
    with pytest.raises(ConfigError, match="there are editor, batch"):
        of("zzzzzz")
    with pytest.raises(ConfigError, match="an API key itself stands here") as caught:
        of("s3cret")
    assert "s3cret" not in str(caught.value)


def test_models_by_any_of_their_names(tmp_path: Path) -> None:
    def of(*names: str, **fields: object) -> dict[str, str]:
        text = "[[model]]\nmodel = 'TINY'\naliases = ['gpt']\n" + "".join(
            f"[sla.c{i}]\nttft_ms = 1\nmodels = ['{name}']\n" for i, name in enumerate(names)
        )
        return class_of_model(*configured(tmp_path, text, **fields))

    stem = cached("tiny").stem
    assert of("gpt") == of(stem) == of("TINY") == {stem: "c0"}
    with pytest.raises(ConfigError, match=r"\[sla\.c0\] models: no model is called 'gtp'; did you"):
        of("gtp")
    with pytest.raises(ConfigError, match=r"\[sla\.c1\] models: .*, which is in \[sla\.c0\] too"):
        of("gpt", stem)
    other = [{"model": str(cached("tiny", quant="q8_0"))}]
    assert of("another model of the file", models=other) == {}
