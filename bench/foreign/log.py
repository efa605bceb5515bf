"""The real run: what each request asked for and when what happened to it.

The rule: times come as seconds after the first arrival. Arrivals may be on another clock than the
engine's; the two are aligned at the shortest way from arrival to the engine's queue. One JSON
object a line: request_id, input_toks, output_toks, arrival_time, queued_ts, scheduled_ts,
first_token_ts, last_token_ts.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench.foreign.profile import ProfileError


class LoggedRequest(msgspec.Struct, frozen=True):
    """Times in seconds on one clock, 0 at the log's first arrival; arrival <= queued <= ..."""

    request_id: str
    num_prompt_tokens: int
    num_output_tokens: int
    arrival_s: float
    queued_s: float
    scheduled_s: float
    first_token_s: float
    last_token_s: float

    @property
    def queue_wait_s(self) -> float:
        return self.scheduled_s - self.queued_s

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.arrival_s

    @property
    def execution_s(self) -> float:
        return self.last_token_s - self.scheduled_s

    @property
    def e2e_s(self) -> float:
        return self.last_token_s - self.arrival_s


class _Line(msgspec.Struct):
    request_id: str
    input_toks: int
    output_toks: int
    queued_ts: float
    scheduled_ts: float
    first_token_ts: float
    last_token_ts: float
    arrival_time: float | None = None


def read_log(path: Path) -> list[LoggedRequest]:
    """In order of arrival. ProfileError names the line that cannot be used."""
    try:
        texts = enumerate(path.read_bytes().splitlines(), 1)
    except OSError as error:
        raise ProfileError(f"{path}: {error}") from None
    lines = [_checked(path, number, text) for number, text in texts if text.strip()]
    if not lines:
        raise ProfileError(f"{path}: no requests")
    arrivals = [
        line.queued_ts if line.arrival_time is None else line.arrival_time for line in lines
    ]
    shift = min(line.queued_ts - arrival for line, arrival in zip(lines, arrivals, strict=True))
    start = min(arrivals) + shift
    found = [
        LoggedRequest(
            line.request_id,
            line.input_toks,
            line.output_toks,
            arrival + shift - start,
            line.queued_ts - start,
            line.scheduled_ts - start,
            line.first_token_ts - start,
            line.last_token_ts - start,
        )
        for line, arrival in zip(lines, arrivals, strict=True)
    ]
    return sorted(found, key=lambda request: (request.arrival_s, request.queued_s))


def _checked(path: Path, number: int, text: bytes) -> _Line:
    try:
        line = msgspec.json.decode(text, type=_Line)
    except msgspec.DecodeError as error:
        raise ProfileError(f"{path}, line {number}: {error}") from None
    if line.input_toks < 1 or line.output_toks < 1:
        raise ProfileError(f"{path}, line {number}: a request has at least a token in and out")
    times = (line.queued_ts, line.scheduled_ts, line.first_token_ts, line.last_token_ts)
    if list(times) != sorted(times):
        raise ProfileError(f"{path}, line {number}: its times go backwards")
    return line
