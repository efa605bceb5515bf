"""A byte-level vocabulary with a few whole words and control tokens, and llguidance over it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

import llguidance

CONTROL = ("<bos>", "<eos>", "<|im_end|>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<think>")
WORDS = ("<tool", "_call>", " the", "é", "日本", "</think>", '{"name": "', '"}}')


class ByteVocab:
    """Tokens: the control names given, then WORDS, then the 256 bytes."""

    def __init__(self, control: Sequence[str] = CONTROL[:3]) -> None:
        self.control = tuple(control)
        self.pieces = [name.encode() for name in (*control, *WORDS)]
        self.first_byte = len(self.pieces)
        self.pieces += [bytes([value]) for value in range(256)]
        self.num_tokens = len(self.pieces)
        self.bos, self.eos, self.eot = 0, 1, 2
        self.fim_prefix = self.fim_suffix = self.fim_middle = None
        self.adds_bos = True
        self.eog_tokens = frozenset({1, 2})

    def piece(self, token: int) -> bytes:
        return self.pieces[token]

    def is_control(self, token: int) -> bool:
        return token < len(self.control)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> bytes:
        tokens = [self.bos] if add_special else []
        while text:
            name = next((n for n in self.control if parse_special and text.startswith(n)), None)
            if name is not None:
                tokens.append(self.control.index(name))
                text = text[len(name) :]
            else:
                tokens += [self.first_byte + byte for byte in text[0].encode()]
                text = text[1:]
        return struct.pack(f"<{len(tokens)}i", *tokens)

    def ids(self, text: str) -> list[int]:
        packed = self.tokenize(text, add_special=False, parse_special=True)
        return list(memoryview(packed).cast("i"))


class _Wrapped:
    def __init__(self, vocab: ByteVocab) -> None:
        self.tokens = vocab.pieces
        self.special_token_ids = list(range(len(vocab.control)))
        self.eos_token_id, self.bos_token_id = vocab.eos, vocab.bos
        self._vocab = vocab

    def __call__(self, text: bytes | str) -> list[int]:
        data = text.encode() if isinstance(text, str) else text
        return [self._vocab.first_byte + byte for byte in data]


class GrammarTester:
    """accepts(): the whole text may be generated and the output may end there."""

    def __init__(self, vocab: ByteVocab) -> None:
        self.vocab = vocab
        self._tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Wrapped(vocab)))

    def matcher(self, source: str) -> llguidance.LLMatcher:
        matcher = llguidance.LLMatcher(self._tokenizer, source, log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def accepts(self, source: str, text: str) -> bool:
        matcher = self.matcher(source)
        tokens = self.vocab.ids(text)
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    def draw(self, source: str, random: Random, max_tokens: int) -> str:
        """A text drawn token by token from what the grammar allows; ends where it may."""
        matcher = self.matcher(source)
        text = b""
        for _ in range(max_tokens):
            if matcher.is_accepting():
                return text.decode()
            allowed = [t for t, bias in enumerate(matcher.compute_logit_bias()) if bias]
            # Closing a string or bracket now and then keeps the text short.
            closing = [t for t in allowed if self.vocab.pieces[t] in (b'"', b"}", b"]", b",")]
            pool = closing if closing and random.random() < 0.3 else allowed
            token = random.choice(pool)
            assert matcher.consume_token(token)
            text += self.vocab.pieces[token]
        raise AssertionError(f"no end after {max_tokens} tokens: {text!r}")
