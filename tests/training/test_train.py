"""Training for real, for some steps: resumed as if it never stopped, exported as llama.cpp runs it.

Needs what training needs (training/requirements.txt); skipped where that is not installed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from fmedge.models.sandboxed import make_environment
from training import tokenizer as vocabulary
from training.mix import Mix

torch = pytest.importorskip("torch", reason="training needs PyTorch")

from training import export, train  # noqa: E402 (both need PyTorch)
from training.model import Model, Shape  # noqa: E402


def run_of(folder: Path, tokenizer: Tokenizer, steps: int) -> train.Run:
    torch.manual_seed(1)
    folder.mkdir(exist_ok=True)
    options = argparse.Namespace(
        folder=folder,
        steps=steps,
        step_tokens=200,
        decay=0.5,
        seed=1,
        save_every=100,
        check_every=100,
    )
    run = train.Run(options, Mix(), vocabulary.Renderer(tokenizer))
    run.resume()
    return run


@pytest.fixture(autouse=True)
def _few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "check", lambda *_: {"none": 0.0})


def test_a_resumed_run_is_as_one_that_was_never_interrupted(tmp_path: Path, learned: Tokenizer):
    whole = run_of(tmp_path / "whole", learned, 4)
    assert whole.train() == 0
    begun = run_of(tmp_path / "parts", learned, 4)
    begun._train_step()
    begun._train_step()
    begun.save()
    resumed = run_of(tmp_path / "parts", learned, 4)
    assert resumed.step == 2
    assert resumed.train() == 0
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "whole" / "level.pt").exists()


def test_an_interrupted_run_says_so_and_is_kept(
    tmp_path: Path, learned: Tokenizer, capsys: pytest.CaptureFixture[str]
):
    run = run_of(tmp_path, learned, 4)
    run.should_stop = True
    assert run.train() == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert (tmp_path / "checkpoint.pt").exists()


def test_texts_in_a_row_do_not_see_each_other(learned: Tokenizer):
    torch.manual_seed(1)
    model = Model(Shape(vocab_size=vocabulary.VOCAB_SIZE, block_count=2)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
        first, second = torch.arange(9), torch.arange(20, 33)
        both = model.losses(torch.cat((first, second)), [9, 13])
        apart = torch.cat((model.losses(first, [9]), model.losses(second, [13])))
    assert torch.allclose(both, apart, atol=1e-5)
    assert both[0] == both[9] == 0


def test_the_export_is_what_llama_cpp_computes(tmp_path: Path, learned: Tokenizer):
    from fmedge._native.vocab import Vocab

    torch.manual_seed(1)
    shape = Shape(vocab_size=vocabulary.VOCAB_SIZE, block_count=2)
    model = Model(shape).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    path = tmp_path / "model.gguf"
    export.write(path, shape, model.state_dict(), learned, "abc1234")
    vocab = Vocab.open(str(path))
    mix, renderer = Mix(), vocabulary.Renderer(learned)
    for seed in range(60):
        text = renderer.text(mix.training(seed))
        tokens = vocab.tokenize(text, add_special=True, parse_special=True)
        assert np.frombuffer(tokens, np.int32).tolist() == learned.encode(text).ids

    import llama_cpp

    llama = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1)
    ids = learned.encode(renderer.text(mix.training(1))).ids[:100]
    llama.eval(ids)
    theirs = np.array(llama.scores[: len(ids)])
    with torch.no_grad():
        ours = model.logits(model.hidden(torch.tensor(ids), [len(ids)])).numpy()
    llama.close()
    assert (theirs - ours).std() < 0.05 * ours.std()  # of which Q8_0 is the most


def test_the_template_is_one_that_fmedge_takes():
    assert make_environment().from_string(vocabulary.TEMPLATE)
