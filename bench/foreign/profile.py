"""Per-operator profile files: tables of kernel times, and the time of a whole step from them.

The rule: a step's time is the sum of its operators, each interpolated linearly between measured
points and never guessed outside them. Files, in microseconds:

    dense.csv         layer,tokens,time_us            once for all tokens of a step
    per_sequence.csv  layer,sequences,time_us         once for all sequences of a step
    attention.csv     prefill_chunk,kv_prefill,n_decode,kv_decode,time_us
                      one chunk after kv_prefill cached tokens, beside n_decode sequences that each
                      read kv_decode (or prefill_key = kv_prefill + prefill_chunk / 2, and a column
                      decode_q_len, of which the rows with 1 count)
    meta.yaml         model, tp_degrees, engine_effective: the limits it was measured under

as the profiler of LLMServingSim 2.0 writes them. Dense operators and attention run once per layer
of the model, but for the embedding and the last norm; a layer has two norms of the same kind.
"""

from __future__ import annotations

import csv
import itertools
import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

ONCE_A_STEP = frozenset({"embedding", "final_layernorm"})
TWICE_A_LAYER = frozenset({"layernorm"})
ATTENTION = "attention"
UNSUPPORTED = ("moe.csv", "linear_attention.csv")

Corner = tuple[int, int, int, int]
"""prefill_chunk, kv_prefill, n_decode, kv_decode."""


class ProfileError(ValueError):
    """A profile or log that cannot be used: which file, and what was wrong."""


class Table(msgspec.Struct, frozen=True):
    """Time over one count, float[n] each, counts ascending."""

    counts: tuple[int, ...]
    times_us: tuple[float, ...]

    @classmethod
    def of(cls, points: Mapping[int, float]) -> Table:
        counts = tuple(sorted(points))
        return cls(counts, tuple(points[count] for count in counts))

    def __call__(self, count: float) -> float:
        """Microseconds; ProfileError outside the measured range."""
        if not self.counts[0] <= count <= self.counts[-1]:
            raise ProfileError(
                f"{count:g} is outside the measured {self.counts[0]} to {self.counts[-1]}"
            )
        return sum(self.times_us[i] * share for i, share in _between(self.counts, count))


class OperatorProfile(msgspec.Struct, frozen=True):
    """One device's tables for one model. num_layers: of the model that is served."""

    num_layers: int
    dense: Mapping[str, Table]
    per_sequence: Mapping[str, Table]
    attention_us: Mapping[Corner, float]
    axes: tuple[tuple[int, ...], ...]
    """Measured values of each of a Corner's four, ascending, float[4][*]."""

    @property
    def max_tokens(self) -> int:
        """The most tokens of a step that every dense operator was measured with."""
        return min(table.counts[-1] for table in self.dense.values())

    @property
    def max_sequences(self) -> int:
        return min(table.counts[-1] for table in self.per_sequence.values())

    def step_s(
        self, chunk: float, past: float, num_decoding: float, depth: float, num_sequences: float
    ) -> float | None:
        """Seconds of a step: a chunk of prefill after `past` tokens (0: none) beside `num_decoding`
        sequences that each read `depth` tokens. None where the tables do not reach.
        """
        attention_us = self._attention((chunk, past, num_decoding, depth))
        if attention_us is None:
            return None
        num_tokens = chunk + num_decoding
        layer_us, step_us = attention_us, 0.0
        for name, table in self.dense.items():
            if name in ONCE_A_STEP:
                step_us += table(num_tokens)
            else:
                layer_us += table(num_tokens) * (2 if name in TWICE_A_LAYER else 1)
        step_us += sum(table(num_sequences) for table in self.per_sequence.values())
        return (self.num_layers * layer_us + step_us) * 1e-6

    def _attention(self, point: tuple[float, float, float, float]) -> float | None:
        """Multilinear between the corners around the point; all that count must be measured."""
        sides = []
        for axis, value in zip(self.axes, point, strict=True):
            if not axis[0] <= value <= axis[-1]:
                return None
            sides.append([(axis[i], share) for i, share in _between(axis, value)])
        total_us = 0.0
        for corner in itertools.product(*sides):
            time_us = self.attention_us.get(tuple(value for value, _ in corner))  # type: ignore[arg-type]
            if time_us is None:
                return None
            for _, share in corner:
                time_us *= share
            total_us += time_us
        return total_us


def read_profile(folder: Path, num_layers: int) -> OperatorProfile:
    """ProfileError names the file and what is wrong with it."""
    if num_layers < 1:
        raise ProfileError(f"the model's number of layers is at least 1, not {num_layers}")
    for name in UNSUPPORTED:
        if (folder / name).exists():
            raise ProfileError(f"{folder / name}: such layers are not understood here")
    degrees = read_meta(folder).get("tp_degrees", [1])
    if 1 not in degrees:
        raise ProfileError(
            f"{folder / 'meta.yaml'}: tp_degrees is {degrees}, but the profile has no times of "
            "the communication between devices: only 1 can be estimated"
        )
    dense = _tables(folder / "dense.csv", "tokens")
    per_sequence = _tables(folder / "per_sequence.csv", "sequences")
    attention = _attention_rows(folder / "attention.csv")
    axes = tuple(tuple(sorted(set(values))) for values in zip(*attention, strict=True))
    return OperatorProfile(num_layers, dense, per_sequence, attention, axes)


def read_meta(folder: Path) -> dict[str, Any]:
    """meta.yaml, {} where there is none."""
    path = folder / "meta.yaml"
    if not path.exists():
        return {}
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ProfileError(f"{path}: {error}") from None


def _tables(path: Path, count: str) -> dict[str, Table]:
    points: dict[str, dict[int, float]] = defaultdict(dict)
    for row in _rows(path, ("layer", count, "time_us")):
        points[row["layer"]][_whole(path, row, count)] = float(row["time_us"])
    return {layer: Table.of(found) for layer, found in points.items()}


def _attention_rows(path: Path) -> dict[Corner, float]:
    rows: dict[Corner, float] = {}
    for row in _rows(path, ("prefill_chunk", "n_decode", "kv_decode", "time_us")):
        if row.get("layer", ATTENTION) != ATTENTION:
            raise ProfileError(f"{path}: {row['layer']!r}: such layers are not understood here")
        if row.get("decode_q_len", "1") != "1":
            continue
        chunk = _whole(path, row, "prefill_chunk")
        if "kv_prefill" in row:
            past = _whole(path, row, "kv_prefill")
        elif _is_amount(row.get("prefill_key")):
            past = round(float(row["prefill_key"]) - chunk / 2)
        else:
            raise ProfileError(f"{path}: neither a column kv_prefill nor prefill_key")
        corner = (chunk, past, _whole(path, row, "n_decode"), _whole(path, row, "kv_decode"))
        rows[corner] = float(row["time_us"])
    if not rows:
        raise ProfileError(f"{path}: no rows of one query token a decoding sequence")
    return rows


def _whole(path: Path, row: dict[str, str], name: str) -> int:
    try:
        return int(row[name])
    except (TypeError, ValueError):
        raise ProfileError(f"{path}: {name} is {row[name]!r}, not a whole number") from None


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The file's rows; ProfileError if it is absent, lacks a column or holds something odd."""
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ProfileError(f"{path}: {error}") from None
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ProfileError(f"{path}: no column {missing[0]!r}")
    if not rows:
        raise ProfileError(f"{path}: no rows")
    for number, row in enumerate(rows, 2):
        for name in columns:
            if name != "layer" and not _is_amount(row[name]):
                raise ProfileError(f"{path}, line {number}: {name} is {row[name]!r}")
    return rows


def _is_amount(text: str | None) -> bool:
    try:
        return text is not None and math.isfinite(float(text)) and float(text) >= 0
    except ValueError:
        return False


def _between(axis: tuple[int, ...], value: float) -> list[tuple[int, float]]:
    """(index, share) of the one or two points of the axis that a value within it lies between."""
    high = bisect_left(axis, value)
    if axis[high] == value:
        return [(high, 1.0)]
    share = (value - axis[high - 1]) / (axis[high] - axis[high - 1])
    return [(high - 1, 1.0 - share), (high, share)]
