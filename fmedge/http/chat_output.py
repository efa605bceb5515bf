"""One chat choice: output text to reasoning, content and tool calls, as deltas or as a message.

Plain content, which is nearly every token, skips everything else: only the text itself is
encoded, between two byte strings made once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from fmedge.http.output import LastTimings, Output, visible
from fmedge.http.responses import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatDelta,
    ChatLogprobs,
    ChatMessageOut,
    FinishReasonOut,
    FunctionCallOut,
    FunctionDelta,
    TokenLogprob,
    ToolCallDelta,
    ToolCallOut,
    TopLogprob,
)
from fmedge.http.sse import event
from fmedge.models.reasoning import ReasoningSplitter
from fmedge.models.tool_parser import CallArguments, CallStart, Content, ToolEvent, ToolParser
from fmedge.types import Vocab

if TYPE_CHECKING:
    from fmedge.dispatch import TokenBatch

_encode = msgspec.json.Encoder().encode


class ChatOutput:
    """A streaming.Choice."""

    def __init__(
        self,
        output: Output,
        index: int,
        frame: ChatChunk,
        *,
        vocab: Vocab,
        splitter: ReasoningSplitter | None,
        parser: ToolParser | None,
        timings: LastTimings,
    ) -> None:
        timings.outputs.append(output)
        self.output = output
        self.index = index
        self.num_reasoning_tokens = 0
        self._frame = frame
        self._vocab = vocab
        self._splitter = splitter
        self._parser = parser
        self._wants_logprobs = output.wants_logprobs
        self._is_plain = splitter is None and parser is None and not output.wants_logprobs
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[CallStart, list[str]]] = []
        self._logprobs: list[TokenLogprob] = []
        self._timings = timings
        marker = frame.id + "#content"
        whole = event(self._chunk(ChatDelta(content=marker)))
        self._before, _, self._after = whole.partition(_encode(marker))

    def opening(self) -> bytes:
        return event(self._chunk(ChatDelta(role="assistant", content="")))

    def events(self, batch: TokenBatch) -> bytes:
        output = self.output
        text = output.push(batch)
        if self._is_plain:
            data = self._before + _encode(text) + self._after if text else b""
            return data + self._last() if output.finish is not None else data
        deltas = self._deltas(batch, text)
        logprobs = self._take_logprobs()
        if logprobs and not deltas:
            deltas = [ChatDelta(content="")]
        parts = []
        for delta in deltas:
            parts.append(event(self._chunk(delta, logprobs=logprobs)))
            logprobs = []
        if output.finish is not None:
            parts.append(self._last())
        return b"".join(parts)

    def take(self, batch: TokenBatch) -> None:
        text = self.output.push(batch)
        if self._is_plain:
            self._content.append(text)
            return
        for delta in self._deltas(batch, text):
            if isinstance(delta.content, str):
                self._content.append(delta.content)
            if isinstance(delta.reasoning_content, str):
                self._reasoning.append(delta.reasoning_content)
        self._logprobs += self._take_logprobs()

    def result(self) -> ChatChoice:
        """The choice in one piece."""
        content = "".join(self._content)
        calls = [
            ToolCallOut(id=start.id, function=FunctionCallOut(start.name, "".join(parts)))
            for start, parts in self._calls
        ]
        message = ChatMessageOut(
            content=content if content or not calls else None,
            reasoning_content="".join(self._reasoning) if self._reasoning else UNSET,
            tool_calls=calls or UNSET,
        )
        return ChatChoice(
            index=self.index,
            message=message,
            logprobs=ChatLogprobs(self._logprobs) if self._wants_logprobs else None,
            finish_reason=self._finish_reason(),
        )

    def _deltas(self, batch: TokenBatch, text: str) -> list[ChatDelta]:
        """The batch's text as deltas; calls are kept for `result` as well."""
        is_over = self.output.finish is not None
        deltas = []
        splitter = self._splitter
        if splitter is not None:
            if splitter.is_reasoning:
                self.num_reasoning_tokens += len(batch.tokens)
            reasoning, text = splitter.push(text)
            if is_over:
                more_reasoning, more_text = splitter.flush()
                reasoning, text = reasoning + more_reasoning, text + more_text
            if reasoning:
                deltas.append(ChatDelta(reasoning_content=reasoning))
        if self._parser is None:
            if text:
                deltas.append(ChatDelta(content=text))
            return deltas
        found = self._parser.push(text) if text else []
        if is_over:
            found += self._parser.flush()
        return deltas + [self._delta_of(each) for each in found]

    def _delta_of(self, found: ToolEvent) -> ChatDelta:
        if isinstance(found, Content):
            return ChatDelta(content=found.text)
        if isinstance(found, CallStart):
            self._calls.append((found, []))
            call = ToolCallDelta(
                index=found.index,
                id=found.id,
                type="function",
                function=FunctionDelta(name=found.name, arguments=""),
            )
        else:
            assert isinstance(found, CallArguments)
            self._calls[found.index][1].append(found.text)
            call = ToolCallDelta(index=found.index, function=FunctionDelta(arguments=found.text))
        return ChatDelta(tool_calls=[call])

    def _take_logprobs(self) -> list[TokenLogprob]:
        entries = []
        for entry in self.output.logprobs:
            token, piece = visible(self._vocab, entry.token)
            top = [
                TopLogprob(name, logprob, data)
                for (name, data), logprob in (
                    (visible(self._vocab, other), value) for other, value in entry.logprobs.top
                )
            ]
            entries.append(TokenLogprob(token, entry.logprobs.logprob, piece, top))
        return entries

    def _finish_reason(self) -> FinishReasonOut:
        if self.output.finish == "length":
            return "length"
        return "tool_calls" if self._calls else "stop"

    def _last(self) -> bytes:
        chunk = self._chunk(ChatDelta(), finish=self._finish_reason())
        return event(msgspec.structs.replace(chunk, timings=self._timings.get()))

    def _chunk(
        self,
        delta: ChatDelta,
        *,
        finish: FinishReasonOut | None = None,
        logprobs: list[TokenLogprob] | None = None,
    ) -> ChatChunk:
        choice = ChatChunkChoice(
            index=self.index,
            delta=delta,
            logprobs=ChatLogprobs(logprobs) if logprobs else None,
            finish_reason=finish,
        )
        return msgspec.structs.replace(self._frame, choices=[choice])
