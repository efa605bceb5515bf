"""The tokenizer: any text comes back, digits stand alone, a word is the same wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from training import tokenizer as vocabulary
from training.conversation import Example, assistant, calls, tool_result, user
from training.mix import Mix

TOOL = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}


def test_the_same_texts_give_the_same_tokenizer(learned: Tokenizer):
    mix, renderer = Mix(), vocabulary.Renderer()
    again = vocabulary.learn(renderer.text(mix.training(seed)) for seed in range(2500))
    assert again.to_str() == learned.to_str()


def test_it_has_the_size_and_ends_with_the_specials(learned: Tokenizer):
    tokens = vocabulary.contents(learned).tokens
    assert len(tokens) == len(set(tokens)) == vocabulary.VOCAB_SIZE
    assert tuple(tokens[-len(vocabulary.SPECIALS) :]) == vocabulary.SPECIALS


@given(st.text(max_size=60))
def test_any_text_comes_back(learned: Tokenizer, text: str):
    assert learned.decode(learned.encode(text).ids, skip_special_tokens=False) == text


def test_digits_stand_alone(learned: Tokenizer):
    digits = set("0123456789")
    for token in vocabulary.contents(learned).tokens:
        assert len(token) == 1 or not digits & set(token)


@pytest.mark.parametrize("name", ["Paris", "Kowalczyk", "qzfleem"])
def test_a_name_is_the_same_after_a_space_and_in_quotes(learned: Tokenizer, name: str):
    alone = learned.encode(name).ids
    assert learned.encode(f'"{name}"').ids[1:-1] == alone
    assert learned.encode(f"in {name}").ids[-len(alone) :] == alone


def test_frequent_words_take_their_space_along(learned: Tokenizer):
    assert learned.encode("What is the capital").tokens[1:3] == ["\u0120is", "\u0120the"]


def test_what_is_learned_is_the_assistants_words_and_the_ends_of_its_turns(learned: Tokenizer):
    example = Example(
        family="any",
        messages=(
            user("What time is it, assistant?"),
            calls(("get_time", {})),
            tool_result('{"time": "10:30"}'),
            assistant("It is 10:30."),
        ),
        tools=(TOOL,),
    )
    ids, is_learned = vocabulary.Renderer(learned).encode(example)
    text = learned.decode(list(ids[is_learned]), skip_special_tokens=False)
    assert text == (
        '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call><|im_end|>'
        "It is 10:30.<|im_end|>"
    )
    assert ids.dtype == np.int64
