from __future__ import annotations

from typing import Any

import pytest

from fmedge.errors import RequestError
from fmedge.models.metadata import ModelMetadata
from fmedge.models.served import ServedModel
from fmedge.models.text import TextStream

from .vocab import CONTROL, ByteVocab, GrammarTester

TEMPLATE = (
    "{{ bos_token }}{% if tools %}<tool_call>{{ tools | length }}</tool_call>{% endif %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% if think %}<think>{% endif %}{% endif %}"
    "{# </think> #}"
)
TOOLS = [{"type": "function", "function": {"name": "f"}}]
USER = [{"role": "user", "content": "Hi"}]


def served(vocab: ByteVocab, template: str | None = TEMPLATE, **changes: Any) -> ServedModel:
    metadata = ModelMetadata(
        architecture="llama", name="m", quant="Q8_0", ctx_train=64, num_layers=1, num_embd=8,
        num_vocab=vocab.num_tokens, num_params=1, file_bytes=1, chat_template=template, **changes,
    )  # fmt: skip
    return ServedModel(name="m", vocab=vocab, metadata=metadata, ctx_size=64)


def test_prompt_has_one_bos_and_tells_of_open_reasoning() -> None:
    vocab = ByteVocab(CONTROL)
    model = served(vocab)
    prompt = model.chat_prompt(USER)
    assert prompt.text == "<bos>user: Hi\nassistant: "
    tokens = list(memoryview(prompt.tokens).cast("i"))
    assert tokens[0] == vocab.bos
    assert tokens.count(vocab.bos) == 1
    assert not prompt.opens_reasoning
    opened = model.chat_prompt(USER, template_kwargs={"think": True, "messages": "ignored"})
    assert opened.opens_reasoning
    splitter = model.splitter(opened)
    assert splitter is not None
    assert splitter.push("hm</think>yes") == ("hm", "yes")
    model.close()


def test_bos_is_added_where_the_template_leaves_it_out() -> None:
    model = served(ByteVocab(), None)
    tokens = memoryview(model.chat_prompt(USER).tokens).cast("i")
    assert tokens[0] == model.vocab.bos
    assert model.splitter(model.chat_prompt(USER)) is None
    model.close()


def test_markers_that_are_control_tokens_show_only_where_they_are_parsed() -> None:
    vocab = ByteVocab(CONTROL)
    model = served(vocab)
    assert model.special == {
        "<think>": CONTROL.index("<think>"),
        "<tool_call>": CONTROL.index("<tool_call>"),
        "</tool_call>": CONTROL.index("</tool_call>"),
    }
    tokens = vocab.ids("<think>a<tool_call>b<eos>")
    assert TextStream(model.pieces).push(tokens) == "ab"
    assert TextStream(model.chat_pieces).push(tokens) == "<think>ab"
    assert TextStream(model.tool_pieces).push(tokens) == "<think>a<tool_call>b"
    assert TextStream(model.raw_pieces).push(tokens) == "<think>a<tool_call>b<eos>"
    assert served(ByteVocab()).special == {}


def test_grammars_are_checked_and_kept() -> None:
    vocab = ByteVocab(CONTROL)
    model = served(vocab)
    grammar = model.tool_grammar(TOOLS, "required")
    assert grammar is not None
    assert model.tool_grammar(TOOLS, "required") is grammar
    assert model.tool_grammar(TOOLS, "none") is None
    tester = GrammarTester(vocab)
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    assert tester.accepts(grammar.source, call)
    assert tester.accepts(grammar.source, "<think>hm</think>" + call)
    opened = model.tool_grammar(TOOLS, "required", opens_reasoning=True)
    assert opened is not None
    assert not tester.accepts(opened.source, call)
    wanted = model.response_grammar({"type": "json_object"})
    assert wanted is not None
    assert tester.accepts(wanted.source, "<think>hm</think>\n{}")
    assert model.response_grammar(None) is None
    bad = [{"type": "function", "function": {"name": "f", "parameters": {"type": "nonsense"}}}]
    with pytest.raises(RequestError):
        model.tool_grammar(bad)


def test_embedding_models_do_not_generate() -> None:
    assert not served(ByteVocab(), is_embedding=True).can_generate
    assert served(ByteVocab()).can_generate
