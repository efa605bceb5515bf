"""A model's tokenizer: text to token ids and token ids to bytes, by llama.cpp's own rules."""

from __future__ import annotations

import os
from typing import Any

from fmedge._native.binding import check, error_text, ffi, lib
from fmedge._native.logs import LogCursor
from fmedge.errors import ModelFileError, ModelLoadError, NativeError

_new_tokens = ffi.new_allocator(should_clear_after_alloc=False)
_MAX_TEXT_BYTES = 1 << 30


class Vocab:
    """Implements `fmedge.types.Vocab`. Its methods may be called from several threads at once."""

    num_tokens: int
    bos: int | None
    eos: int | None
    eot: int | None
    fim_prefix: int | None
    fim_suffix: int | None
    fim_middle: int | None
    adds_bos: bool
    eog_tokens: frozenset[int]

    def __init__(self, handle: Any, owner: object = None) -> None:
        """handle: an fm_vocab that this object now owns; owner: what must outlive it."""
        self._handle = ffi.gc(handle, lib.fm_vocab_free)
        self._owner = owner
        info = ffi.new("fm_vocab_info *")
        lib.fm_vocab_get_info(self._handle, info)
        self.num_tokens = info.num_tokens
        self.bos = _token_or_none(info.bos)
        self.eos = _token_or_none(info.eos)
        self.eot = _token_or_none(info.eot)
        self.fim_prefix = _token_or_none(info.fim_prefix)
        self.fim_suffix = _token_or_none(info.fim_suffix)
        self.fim_middle = _token_or_none(info.fim_middle)
        self.adds_bos = info.adds_bos
        flags = bytearray(self.num_tokens)
        lib.fm_vocab_flags(self._handle, ffi.from_buffer("uint8_t[]", flags))
        self._flags = bytes(flags)
        self.eog_tokens = frozenset(
            token for token, bits in enumerate(self._flags) if bits & lib.FM_TOKEN_EOG
        )
        self._pieces: list[bytes | None] = [None] * self.num_tokens

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Vocab:
        """Loads the tokenizer alone, no weights. ModelFileError if llama.cpp cannot."""
        cursor = LogCursor()
        handle_out = ffi.new("fm_vocab **")
        code = lib.fm_vocab_open(os.fsencode(path), handle_out)
        if code in (lib.FM_ERR_LOAD, lib.FM_ERR):
            reason = cursor.problems() or error_text()
            raise ModelFileError(f"{os.fspath(path)}: cannot read the tokenizer: {reason}")
        check(code)
        return cls(handle_out[0])

    @classmethod
    def of_engine(cls, engine: Any, owner: object) -> Vocab:
        """The tokenizer of a loaded fm_engine, which `owner` keeps alive."""
        handle_out = ffi.new("fm_vocab **")
        check(lib.fm_vocab_of_engine(engine, handle_out))
        return cls(handle_out[0], owner)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> bytes:
        """Token ids as packed int32 little-endian. GIL is released."""
        data = text.encode("utf-8", "replace")
        if len(data) > _MAX_TEXT_BYTES:
            raise NativeError(f"a text of {len(data)} bytes is too long to tokenise")
        cap = len(data) + 16
        while True:
            tokens = _new_tokens("int32_t[]", cap)
            num_tokens = check(
                lib.fm_vocab_tokenize(
                    self._open_handle(), data, len(data), add_special, parse_special, tokens, cap
                )
            )
            if num_tokens <= cap:
                return bytes(ffi.buffer(tokens, num_tokens * 4))
            cap = num_tokens

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens give their name (`<|im_end|>`)."""
        if not 0 <= token < self.num_tokens:
            raise NativeError(f"there is no token {token}: the vocabulary has {self.num_tokens}")
        piece = self._pieces[token]
        if piece is None:
            piece = self._pieces[token] = self._read_piece(token)
        return piece

    def _read_piece(self, token: int) -> bytes:
        cap = 128
        while True:
            buffer = ffi.new("char[]", cap)
            length = check(lib.fm_vocab_piece(self._open_handle(), token, buffer, cap))
            if length <= cap:
                return bytes(ffi.unpack(buffer, length))
            cap = length

    def is_control(self, token: int) -> bool:
        """True for tokens that are not text (BOS, `<|im_end|>`, ...)."""
        return bool(self._flags[token] & lib.FM_TOKEN_CONTROL)

    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ModelLoadError("this tokenizer was closed")
        return self._handle

    def close(self) -> None:
        """Frees it; nobody may be using it. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            ffi.release(handle)


def _token_or_none(token: int) -> int | None:
    return token if token >= 0 else None
