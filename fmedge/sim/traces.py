"""Traces that others recorded, line by line: the Azure LLM inference traces (Patel et al.,
"Splitwise", ISCA 2024: https://github.com/Azure/AzurePublicDataset) and Mooncake's (Qin et al.,
FAST 2025: https://github.com/kvcache-ai/Mooncake).

The rule: a line that cannot be meant is refused with its number and column, never mended; but a
call has a token in and one out, where a trace says none.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from fmedge.config.demand import MAX_TOKENS
from fmedge.errors import ConfigError
from fmedge.sim.lines import bad_json, lines
from fmedge.sim.parts import Part, Task
from fmedge.sim.workload import Call

AZURE_COLUMNS = TIMESTAMP, CONTEXT, GENERATED = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
MOONCAKE_BLOCK_TOKENS = 512
_MICROSECONDS = 26
"""Characters of a date and time to the microsecond; traces have a digit more, or a time zone."""

BlockId = Annotated[int, Meta(ge=0, lt=1 << 48)]


class _Mooncake(msgspec.Struct, frozen=True):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: tuple[BlockId, ...] = ()


def azure(path: Path) -> Part:
    """A CSV file with AZURE_COLUMNS, perhaps among others; times are dates."""
    return Part(tasks=_azure(path))


def mooncake(path: Path) -> Part:
    """JSON lines: timestamp in milliseconds, input_length and output_length in tokens, hash_ids of
    the prompt's blocks of MOONCAKE_BLOCK_TOKENS tokens."""
    return Part(tasks=_mooncake(path), block_tokens=MOONCAKE_BLOCK_TOKENS)


def _azure(path: Path) -> Iterator[Task]:
    numbers: list[int] = []
    rows = csv.reader(_text(path, numbers))
    try:
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in AZURE_COLUMNS if name not in header]
        if missing:
            raise ConfigError(
                f"{path}: line 1: no column {', '.join(missing)}: an Azure LLM trace has "
                f"{', '.join(AZURE_COLUMNS)}, this file {', '.join(header)[:200]}"
            )
        at, num_in, num_out = (header.index(name) for name in AZURE_COLUMNS)
        first = last = None
        for row in rows:
            if len(row) != len(header):
                raise ConfigError(
                    f"{path}: line {numbers[-1]}: {len(row)} columns, not {len(header)}"
                )
            now = _date(row[at], path, numbers[-1])
            first, last = first or now, last or now
            if now < last:
                raise _unsorted(path, numbers[-1], TIMESTAMP, row[at])
            last = now
            yield [
                Call(
                    at_s=(now - first).total_seconds(),
                    num_prompt=_count(row[num_in], path, numbers[-1], CONTEXT),
                    num_output=_count(row[num_out], path, numbers[-1], GENERATED),
                )
            ]
    except csv.Error as error:
        raise ConfigError(f"{path}: line {numbers[-1] if numbers else 1}: {error}") from error


def _text(path: Path, numbers: list[int]) -> Iterator[str]:
    """numbers: the last line's number is kept in it."""
    numbers.append(0)
    for number, line in lines(path):
        numbers[-1] = number
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: line {number}: not UTF-8 text ({error.reason})") from error


def _mooncake(path: Path) -> Iterator[Task]:
    decoder = msgspec.json.Decoder(_Mooncake)
    last_ms = 0.0
    for number, line in lines(path):
        try:
            found = decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise bad_json(path, number, error) from error
        at_ms = found.timestamp
        if at_ms < 0:
            raise ConfigError(f"{path}: line {number}, timestamp: {at_ms:g} is negative")
        if at_ms < last_ms:
            raise _unsorted(path, number, "timestamp", f"{at_ms:g}")
        last_ms = at_ms
        for name, tokens in (
            ("input_length", found.input_length),
            ("output_length", found.output_length),
        ):
            if not 0 <= tokens <= MAX_TOKENS:
                raise _no_count(path, number, name, str(tokens))
        num_prompt = max(1, found.input_length)
        num_blocks = -(-num_prompt // MOONCAKE_BLOCK_TOKENS)
        yield [
            Call(
                at_s=at_ms / 1e3,
                num_prompt=num_prompt,
                num_output=max(1, found.output_length),
                blocks=found.hash_ids[:num_blocks],
            )
        ]


def _date(text: str, path: Path, number: int) -> datetime:
    try:
        return datetime.fromisoformat(text[:_MICROSECONDS]).replace(tzinfo=None)
    except ValueError:
        raise ConfigError(
            f"{path}: line {number}, {TIMESTAMP}: expected a date and time such as "
            f"2023-11-16 18:15:46.680590, got {text[:80]!r}"
        ) from None


def _count(text: str, path: Path, number: int, column: str) -> int:
    try:
        found = int(text)
    except ValueError:
        raise _no_count(path, number, column, text) from None
    if not 0 <= found <= MAX_TOKENS:
        raise _no_count(path, number, column, text)
    return max(1, found)


def _no_count(path: Path, number: int, column: str, text: str) -> ConfigError:
    return ConfigError(
        f"{path}: line {number}, {column}: expected a number of tokens, 0 to {MAX_TOKENS}, "
        f"got {text[:80]!r}"
    )


def _unsorted(path: Path, number: int, column: str, text: str) -> ConfigError:
    return ConfigError(
        f"{path}: line {number}, {column}: {text} is before the line above it: sort the trace by "
        "time"
    )
