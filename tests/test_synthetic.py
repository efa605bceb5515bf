"""The synthetic models are what llama.cpp takes for real ones; the oracle is llama-cpp-python.

It runs in a process of its own: this process must never hold a second libllama.
"""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import jinja2
import pytest

from tests import synthetic
from tests.synthetic import PRESETS, ModelSpec

TEXTS = (
    "Once upon a time there was water.",
    "h\u00e9llo \U0001f389 w\u00f6rld \u200d\t\n\n  \u65e5\u672c\u8a9e\u3002 12345",
    "".join(chr(code) for code in range(1, 0x250)),
    "\U0010ffff\ufffd\u0000 end",
    "<|im_start|>user\nhi<|im_end|>\n",
)

ORACLE = """
import base64, json, sys
from llama_cpp import Llama
import numpy as np

def report(path, texts, num_tokens):
    model = Llama(path, n_ctx=512, n_threads=1, verbose=False, logits_all=True,
                  embedding="embedding" in path)
    prompt = model.tokenize(texts[0].encode(), add_bos=False)
    answer = {
        "vocab": model.n_vocab(), "eos": model.token_eos(), "bos": model.token_bos(),
        "texts": [base64.b64encode(model.detokenize(
            model.tokenize(text.encode(), add_bos=False, special=False))).decode()
            for text in texts],
        "special": model.tokenize(texts[-1].encode(), add_bos=False, special=True),
        "plain": model.tokenize(texts[-1].encode(), add_bos=False, special=False),
        "template": model.metadata.get("tokenizer.chat_template"),
    }
    if "embedding" in path:
        answer["vectors"] = [model.embed(text) for text in texts[:2]]
        return answer
    greedy = []
    for token in model.generate(prompt, temp=0.0, repeat_penalty=1.0):
        greedy.append(token)
        if len(greedy) == num_tokens:
            break
    logits = np.array(model._scores, dtype=np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    answer["greedy"] = greedy
    answer["eos_chance"] = float(chances[:, model.token_eos()].max())
    answer["entropy"] = [float(-(row * np.log(row + 1e-30)).sum()) for row in chances]
    return answer

request = json.load(sys.stdin)
json.dump({path: report(path, request["texts"], 48) for path in request["paths"]}, sys.stdout)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, by name."""
    folder = tmp_path_factory.mktemp("models")
    tiny = PRESETS["tiny"]
    files = {
        "embedding": synthetic.write_model(folder / "embedding.gguf", PRESETS["embedding"]),
        "pooled": synthetic.write_model(folder / "pooled.gguf", tiny, pooling="last"),
    }
    for arch in ("llama", "qwen2", "qwen3"):
        files[arch] = synthetic.write_model(folder / f"{arch}.gguf", tiny, arch=arch)
    files["q8_0"] = synthetic.write_model(folder / "q8_0.gguf", tiny, quant="q8_0", seed=7)
    return files


@pytest.fixture(scope="module")
def oracle(models: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What llama.cpp says of each file."""
    request = {"paths": [str(path) for path in models.values()], "texts": TEXTS}
    done = subprocess.run(
        [sys.executable, "-c", ORACLE],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = json.loads(done.stdout)
    return {name: answers[str(path)] for name, path in models.items()}


KINDS = ("llama", "qwen2", "qwen3", "q8_0", "pooled", "embedding")


@pytest.mark.parametrize("kind", KINDS)
def test_llama_cpp_gives_every_text_back(kind: str, oracle: dict[str, dict[str, Any]]) -> None:
    found = [base64.b64decode(text).decode() for text in oracle[kind]["texts"]]
    assert found == list(TEXTS)
    assert oracle[kind]["vocab"] == 512


def test_special_tokens_are_one_token_only_where_specials_are_parsed(
    oracle: dict[str, dict[str, Any]],
) -> None:
    answer = oracle["llama"]
    assert answer["eos"] in answer["special"]
    assert answer["eos"] not in answer["plain"]
    assert len(answer["special"]) < len(answer["plain"])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "q8_0", "pooled"])
def test_output_is_varied_and_does_not_end(kind: str, oracle: dict[str, dict[str, Any]]) -> None:
    answer = oracle[kind]
    assert answer["eos"] not in answer["greedy"]
    assert answer["eos_chance"] < 1e-4
    assert len(set(answer["greedy"])) >= 12
    entropy = sorted(answer["entropy"])
    assert 1.0 < entropy[len(entropy) // 2] < 5.5  # neither one-hot nor uniform (ln 512 = 6.2)


def test_embedding_model_tells_texts_apart(oracle: dict[str, dict[str, Any]]) -> None:
    first, second = oracle["embedding"]["vectors"]
    assert len(first) == PRESETS["embedding"].n_embd
    assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 0.01


def test_chat_template_renders_turns_and_tools(oracle: dict[str, dict[str, Any]]) -> None:
    template = jinja2.Environment(autoescape=False).from_string(oracle["llama"]["template"])
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
    ]
    plain = template.render(messages=messages, add_generation_prompt=True)
    assert plain == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    call = {"function": {"name": "weather", "arguments": {"city": "Bergen"}}}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
    ]
    with_tools = template.render(messages=messages, tools=[{"name": "weather"}])
    assert with_tools.count("Be kind.") == 1
    assert '<tools>\n{"name": "weather"}\n</tools>' in with_tools
    assert '{"name": "weather", "arguments": {"city": "Bergen"}}\n</tool_call>' in with_tools
    assert "<tool_response>\nrain\n</tool_response>" in with_tools


def test_same_spec_same_bytes_in_another_process(tmp_path: Path, models: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "tests.synthetic", "--preset", "tiny", "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "a.gguf")], capture_output=True, text=True, timeout=60, check=True
    )
    assert "random weights" in done.stdout
    assert (tmp_path / "a.gguf").read_bytes() == models["llama"].read_bytes()
    assert models["llama"].stat().st_size < 1_000_000


def test_cache_is_shared_by_processes_that_race_for_it(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        paths = pool.starmap(synthetic.cached, [("tiny", tmp_path)] * 3)
    assert len(set(paths)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [paths[0].name]
    changed = synthetic.cached("tiny", tmp_path, seed=1)
    assert changed != paths[0]
    assert changed.read_bytes() != paths[0].read_bytes()


def test_sparse_file_is_large_in_name_only(tmp_path: Path) -> None:
    spec = ModelSpec(
        vocab_size=32000,
        n_embd=8192,
        n_layers=80,
        n_heads=64,
        n_kv_heads=8,
        n_ff=28672,
        quant="q4_0",
    )
    path = synthetic.write_sparse(tmp_path / "70b.gguf", spec)
    stat = os.stat(path)
    assert stat.st_size > 35e9
    assert stat.st_blocks * 512 < 8e6
    reader = gguf.GGUFReader(path)
    last = reader.tensors[-1]
    assert last.data_offset + last.n_bytes <= stat.st_size
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) > 65e9


def test_impossible_specs_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="arch must be one of"):
        synthetic.write_model(tmp_path / "x.gguf", arch="gpt9")
    with pytest.raises(ValueError, match="vocab_size must be at least"):
        synthetic.write_model(tmp_path / "x.gguf", vocab_size=100)
    with pytest.raises(ValueError, match="special_tokens must contain"):
        synthetic.write_model(tmp_path / "x.gguf", special_tokens=("<|im_end|>",))
    assert list(tmp_path.iterdir()) == []


def test_command_line_names_what_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert synthetic.main(["--preset", "tiny", "-o", str(tmp_path / "no" / "x.gguf")]) == 1
    assert "cannot write" in capsys.readouterr().err
