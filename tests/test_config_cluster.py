"""Cluster files: what they hold, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from fmedge.config.cluster import load_cluster
from fmedge.config.demand import Quantiles
from fmedge.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
DEVICE = "[[device]]\nname = 'gpu0'\nkind = 'RTX 4090'\n"
FIGURES = "layers = 4\nembedding = 512\nfeed_forward = 1024\nheads = 8\nkv_heads = 2\n"
MODEL = f"[[model]]\nname = 'chat'\n{FIGURES}"


def _file(folder: Path, text: str) -> Path:
    path = folder / "cluster.toml"
    path.write_text(text)
    return path


def test_what_a_file_says(tmp_path: Path) -> None:
    (tmp_path / "real.gguf").touch()
    text = f"""
        {DEVICE}
        {MODEL}
        quant = "Q8_0"
        slots = 8
        kv_type = "q8_0"
        replicas = 2
        [[model]]
        name = "other"
        file = "real.gguf"
        [emulation]
        sigma = 0.03
        slowdown = {{ "chat/1" = 1.5 }}
        output_tokens = {{ p50 = 100, p95 = 300 }}
        [[demand]]
        model = "chat"
        rate_per_s = 2
        prompt_tokens = {{ p50 = 500, p95 = 900 }}
        output_tokens = {{ p50 = 100, p95 = 300 }}
        sla = "fast"
        [sla.fast]
        ttft_ms = 900
        """
    cluster = load_cluster(_file(tmp_path, text))
    chat, other = cluster.models
    assert chat.figures is not None
    assert (chat.figures.layers, chat.figures.quant, chat.file) == (4, "Q8_0", "")
    assert chat.engine == {"slots": 8, "type_k": "q8_0", "type_v": "q8_0"}
    assert (chat.replicas, other.replicas) == (2, None)
    assert (other.figures, other.engine) == (None, {})
    assert Path(other.file) == tmp_path / "real.gguf"
    assert cluster.emulation.slowdown == {"chat/1": 1.5}
    assert cluster.emulation.output_tokens == Quantiles(100, 300)
    assert cluster.demand[0].sla_class is cluster.sla["fast"]
    assert [device.kind for device in cluster.devices] == ["RTX 4090"]


@pytest.mark.parametrize("name", ["workstation", "rack", "control"])
def test_the_clusters_of_the_benchmark_are_sound(name: str) -> None:
    cluster = load_cluster(ROOT / "bench" / "cluster" / "clusters" / f"{name}.toml")
    assert cluster.models[0].replicas in (3, 7, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "describes no device: write a [[device]]"),
        (DEVICE, "describes no model: write a [[model]]"),
        (f"{DEVICE}[[models]]\nname = 'a'", "unknown key 'models'; did you mean 'model'?"),
        (f"{DEVICE}[[model]]\nfile = 'a'", "[[model]] number 1: needs name"),
        (f"{DEVICE}[[model]]\nname = 'chat'", "(chat): needs file = "),
        (
            f"{DEVICE}[[model]]\nname = 'chat'\nlayers = 3",
            "describes it: embedding, feed_forward, heads, kv_heads",
        ),
        (
            f"{DEVICE}[[model]]\nname = 'chat'\nfile = 'a.gguf'\nlayers = 3",
            "(chat): layers and a file",
        ),
        (f"{DEVICE}{MODEL}n_layer = 3", "unknown key 'n_layer'; did you mean 'layers'?"),
        (f"{DEVICE}{MODEL}slots = 0", "slots: expected int >= 1"),
        (f"{DEVICE}{MODEL}kv_type = 'q9'", "kv_type: invalid enum value 'q9'"),
        (f"{DEVICE}{MODEL}{MODEL}", "[[model]] number 2 (chat): another model has that name"),
        (f"{DEVICE}{MODEL.replace('kv_heads = 2', 'kv_heads = 3')}", "no multiple of kv_heads (3)"),
        (f"{DEVICE}{MODEL.replace('512', '500')}", "no multiple of heads (8): give head_size"),
        (f"{DEVICE}{MODEL}head_size = 65", "head_size must be even"),
        (f"{DEVICE}{MODEL}experts = 8", "experts_used must be from 1 to experts (8)"),
        (f"{DEVICE}{MODEL}experts = 8\nexperts_used = 2", "need expert_feed_forward"),
        (f"{DEVICE}{MODEL}experts_used = 2", "experts_used without experts"),
        (f"{DEVICE}{MODEL}[emulation]\nnoise = 1", "did you mean 'sigma'?"),
        (f"{DEVICE}{MODEL}[emulation]\nsigma = nan", "[emulation]: sigma"),
        (f"{DEVICE}{MODEL}[emulation]\nstraggler_factor = 0.0", "straggler_factor"),
        (f"{DEVICE}{MODEL}[emulation]\noutput_tokens = 5", "output_tokens: expected { p50"),
        (f"{DEVICE}{MODEL}[emulation]\nslowdown = {{ a = 0 }}", "[emulation]: slowdown"),
        (f"emulation = 3\n{DEVICE}{MODEL}", "[emulation] must be a table"),
        (
            f"{DEVICE}{MODEL}[[demand]]\nmodel = 'chat'\nrate_per_s = 1\nsla = 'x'\n"
            "prompt_tokens = { p50 = 1, p95 = 2 }\noutput_tokens = { p50 = 1, p95 = 2 }",
            "there is no class 'x'",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load_cluster(path)
    assert said in str(raised.value)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)
