"""One model as the HTTP layer sees it: its tokenizer, template, formats and limits together.

A request's prompt, grammar, text pieces and parsers all come from here, so that they agree on the
markers and on whether the prompt left a reasoning block open. Methods may be called from several
threads at once.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from fmedge.models import constrain
from fmedge.models.child import Sandbox
from fmedge.models.metadata import ModelMetadata
from fmedge.models.reasoning import (
    ReasoningMarkers,
    ReasoningSplitter,
    detect_reasoning,
    prompt_opens_reasoning,
)
from fmedge.models.template import ChatTemplate
from fmedge.models.text import PieceTable
from fmedge.models.tools import ToolChoice, ToolFormat, detect_tool_format
from fmedge.types import Grammar, Vocab

_MAX_CACHED_GRAMMARS = 64


class ChatPrompt(Struct, frozen=True):
    """A rendered conversation. tokens: packed int32. opens_reasoning: the text ends inside a
    reasoning block, so the output begins there."""

    text: str
    tokens: bytes
    opens_reasoning: bool


class ServedModel:
    """What http needs of one model.

    ctx_size: most tokens of prompt and output together. created: Unix time in seconds.
    pieces: token to text for plain completions; chat_pieces and tool_pieces also show reasoning
    (and tool-call) markers that are control tokens; raw_pieces shows every token.
    chat_template: instead of the model's own. sandbox: for it, as ChatTemplate takes it.
    """

    def __init__(
        self,
        *,
        name: str,
        vocab: Vocab,
        metadata: ModelMetadata,
        ctx_size: int,
        aliases: Sequence[str] = (),
        created: int = 0,
        chat_template: str | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.name = name
        self.aliases = tuple(aliases)
        self.created = created
        self.vocab = vocab
        self.metadata = metadata
        self.ctx_size = ctx_size
        self.is_embedding = metadata.is_embedding
        source = metadata.chat_template if chat_template is None else chat_template
        self._bos_text = _token_text(vocab, vocab.bos)
        self.template = ChatTemplate(
            source, self._bos_text, _token_text(vocab, vocab.eos), sandbox=sandbox
        )
        self.tool_format: ToolFormat = detect_tool_format(source)
        self.reasoning: ReasoningMarkers | None = detect_reasoning(source)
        thoughts = (
            (self.reasoning.opening, self.reasoning.closing) if self.reasoning is not None else ()
        )
        markers = (*thoughts, *self.tool_format.markers)
        self.special = _control_tokens(vocab, markers)
        self.pieces = PieceTable(vocab)
        self.chat_pieces = PieceTable(vocab, shown=thoughts)
        self.tool_pieces = PieceTable(vocab, shown=markers)
        self.raw_pieces = PieceTable(vocab, show_control=True)
        self._grammars: OrderedDict[bytes, Grammar | None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def can_generate(self) -> bool:
        """False for a model that only embeds."""
        return not self.is_embedding

    def known_as(self, aliases: Sequence[str], ctx_size: int) -> ServedModel:
        """The same under other aliases, or with another longest request; what it holds is shared,
        its renderer too."""
        other = copy.copy(self)
        other.aliases, other.ctx_size = tuple(aliases), ctx_size
        return other

    def chat_prompt(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        tool_choice: ToolChoice = "auto",
        *,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> ChatPrompt:
        """Render and tokenise. RequestError for what the template or the tools refuse."""
        shown, native_tools = self.tool_format.prompt(messages, tools, tool_choice)
        variables = dict(template_kwargs or {})
        for name in ("messages", "tools", "add_generation_prompt"):
            variables.pop(name, None)  # the request's own fields say these
        text = self.template.render(shown, native_tools, add_generation_prompt, **variables)
        opens = self.reasoning is not None and prompt_opens_reasoning(text, self.reasoning)
        return ChatPrompt(text, self.tokenize_prompt(text), opens)

    def tokenize_prompt(self, text: str) -> bytes:
        """Tokens (packed int32) of a rendered prompt, with BOS once if the model wants one."""
        has_bos = bool(self._bos_text) and text.startswith(self._bos_text)
        return self.vocab.tokenize(text, add_special=not has_bos, parse_special=True)

    def tool_grammar(
        self,
        tools: Sequence[Mapping[str, Any]],
        tool_choice: ToolChoice = "auto",
        parallel: bool = True,
        *,
        opens_reasoning: bool = False,
    ) -> Grammar | None:
        """The constraint for a request with tools, checked; None when it needs none."""
        if not tools:
            return self.tool_format.grammar(tools, tool_choice, parallel)

        def build() -> Grammar | None:
            grammar = self.tool_format.grammar(
                tools,
                tool_choice,
                parallel,
                special=self.special,
                thinking=self._thinking(opens_reasoning),
            )
            return None if grammar is None else constrain.validate(grammar, param="tools")

        return self._cached(("tools", tools, tool_choice, parallel, opens_reasoning), build)

    def response_grammar(
        self, response_format: Mapping[str, Any] | None, *, opens_reasoning: bool = False
    ) -> Grammar | None:
        """The constraint for OpenAI's response_format, checked; None when it asks for none."""
        if response_format is None:
            return None

        def build() -> Grammar | None:
            grammar = constrain.from_response_format(response_format)
            return None if grammar is None else self.after_reasoning(grammar, opens_reasoning)

        return self._cached(("format", response_format, opens_reasoning), build)

    def after_reasoning(self, grammar: Grammar, opens_reasoning: bool) -> Grammar:
        """The same constraint for the answer of a model that may reason aloud before it."""
        thinking = self._thinking(opens_reasoning)
        if thinking is None:
            return grammar
        return constrain.after_thinking(grammar, thinking, self.special)

    def splitter(self, prompt: ChatPrompt) -> ReasoningSplitter | None:
        """A splitter for one output after `prompt`; None if the model does not reason aloud."""
        if self.reasoning is None:
            return None
        return ReasoningSplitter(self.reasoning, opened=prompt.opens_reasoning)

    def close(self) -> None:
        """End the template's renderer."""
        self.template.close()

    def _thinking(self, is_open: bool) -> tuple[str, str, bool] | None:
        if self.reasoning is None:
            return None
        return self.reasoning.opening, self.reasoning.closing, is_open

    def _cached(self, key: Any, build: Callable[[], Grammar | None]) -> Grammar | None:
        encoded = msgspec.json.encode(key)
        with self._lock:
            if encoded in self._grammars:
                self._grammars.move_to_end(encoded)
                return self._grammars[encoded]
        grammar = build()
        with self._lock:
            self._grammars[encoded] = grammar
            while len(self._grammars) > _MAX_CACHED_GRAMMARS:
                self._grammars.popitem(last=False)
        return grammar


def _token_text(vocab: Vocab, token: int | None) -> str:
    return "" if token is None else vocab.piece(token).decode("utf-8", "replace")


def _control_tokens(vocab: Vocab, markers: Sequence[str]) -> dict[str, int]:
    """Those of the markers that are one control token of the vocabulary, with its id."""
    found: dict[str, int] = {}
    for marker in markers:
        packed = vocab.tokenize(marker, add_special=False, parse_special=True)
        if len(packed) == 4:
            token = int.from_bytes(packed, "little", signed=True)
            if vocab.is_control(token):
                found[marker] = token
    return found
