"""The requests that a workload's calls are sent as.

The rule: a request depends on the call, its place and the seed alone, so that two runs send the
same prompts; but for what counts down to the end of a task.
"""

from __future__ import annotations

import random
from hashlib import sha256
from math import inf
from typing import Any, Literal

import msgspec
from msgspec import Struct

from fmedge.cli.bench_client import Client
from fmedge.cli.bench_peer import Peer
from fmedge.cli.bench_prompts import WORDS
from fmedge.sched.emulation import LENGTH_SEED, NUM_LENGTHS
from fmedge.sim.load import prompt_tokens
from fmedge.sim.summary import due_times
from fmedge.sim.workload import Call, Workload

_MASK = (1 << 62) - 1
Lengths = Literal["emulated", "forced", "free"]


class Manner(Struct, frozen=True, kw_only=True):
    """How calls are put. lengths: what makes an answer as long as the workload says. emulated: the
    seed, which `fmedge serve --emulate` reads; forced: max_tokens, and no end before it; free:
    max_tokens alone. style: prompts as token ids of [token_low, token_high) or as words,
    words_per_token x (size - overhead_tokens) of them. with_promises: in fmedge's own headers.
    headers: of every request. extra: fields of every body. seed: of the prompts."""

    endpoint: Literal["completions", "chat"] = "completions"
    style: Literal["tokens", "text"] = "tokens"
    lengths: Lengths = "forced"
    token_low: int = 1000
    token_high: int = 30000
    words_per_token: float = 1.0
    overhead_tokens: float = 0.0
    temperature: float | None = None
    with_promises: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    extra: dict[str, Any] = {}
    seed: int = 0

    @property
    def path(self) -> str:
        return "/v1/chat/completions" if self.endpoint == "chat" else "/v1/completions"


class Requests:
    """Makes the bytes of each call's request. run_id: keeps this run's tasks apart from others'."""

    def __init__(
        self, client: Client, workload: Workload, peer: Peer, manner: Manner, *, run_id: str
    ) -> None:
        self._client = client
        self._workload = workload
        self._peer = peer
        self._manner = manner
        self._run_id = run_id
        self._salt = int.from_bytes(sha256(b"%d" % manner.seed).digest()[:7], "little")
        self._roots_s = due_times(workload.calls)
        longest = max((call.num_output for call in workload.calls), default=1)
        self._most_tokens = 1 << max(0, longest - 1).bit_length()

    def __call__(self, place: int, due_s: float) -> bytes:
        """due_s: when it is sent, from the start of the run."""
        call = self._workload.calls[place]
        headers = list(self._manner.headers)
        if self._manner.with_promises:
            headers += self._promise(call) + self._task(call, due_s - self._roots_s[place])
        return self._client.request(
            self._manner.path, self._body(call, place), headers, key=call.api_key
        )

    def _body(self, call: Call, place: int) -> dict[str, Any]:
        manner = self._manner
        body: dict[str, Any] = {
            "model": call.model or self._peer.model,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        prompt = self._prompt(call, place)
        if manner.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if manner.lengths == "emulated":
            body["seed"] = LENGTH_SEED + min(call.num_output, NUM_LENGTHS - 1)
            if call.max_tokens:
                body["max_tokens"] = call.max_tokens
            elif not self._peer.is_fmedge:  # others end after 16 tokens where nothing is said
                body["max_tokens"] = self._most_tokens
        else:
            body["max_tokens"] = call.num_output
            if manner.lengths == "forced":
                body["ignore_eos"] = True
        if manner.temperature is not None:
            body["temperature"] = manner.temperature
        if call.priority and manner.with_promises:
            body["priority"] = call.priority
        return body | manner.extra

    def _prompt(self, call: Call, place: int) -> list[int] | str:
        manner, size = self._manner, self._workload.block_tokens
        index = place + self._salt
        if call.blocks:
            blocks = tuple((block + self._salt) & _MASK for block in call.blocks)
            call = msgspec.structs.replace(call, blocks=blocks)
        if manner.style == "tokens":
            packed = prompt_tokens(call, index, size, manner.token_low, manner.token_high)
            return memoryview(packed).cast("i").tolist()
        words = [WORDS[n] for n in memoryview(
            prompt_tokens(call, index, size, 0, len(WORDS))
        ).cast("i")]  # fmt: skip
        count = max(1, round((call.num_prompt - manner.overhead_tokens) * manner.words_per_token))
        if count > len(words):
            chance = random.Random(index)  # noqa: S311 (a workload, not a secret)
            words += chance.choices(WORDS, k=count - len(words))
        return " ".join(words[:count])

    def _promise(self, call: Call) -> list[tuple[str, str]]:
        promise = call.promise
        limits = (
            ("x-fmedge-slo-ttft-ms", promise.ttft_s),
            ("x-fmedge-slo-tpot-ms", promise.tpot_s),
            ("x-fmedge-slo-e2e-ms", promise.e2e_s),
        )
        headers = [(name, f"{value * 1e3:.6f}") for name, value in limits if value < inf]
        if promise.sla_class in self._peer.classes:
            headers.append(("x-fmedge-sla", promise.sla_class))
        return headers

    def _task(self, call: Call, passed_s: float) -> list[tuple[str, str]]:
        """passed_s: since the task began."""
        if call.workflow not in self._peer.workflows:
            return []
        headers = [
            ("x-fmedge-workflow", call.workflow),
            ("x-fmedge-workflow-id", f"{self._run_id}-{call.instance}"),
        ]
        settings = self._workload.workflows.get(call.workflow)
        if settings is not None and settings.e2e_s < inf:
            left_s = max(1e-3, settings.e2e_s - passed_s)
            headers.append(("x-fmedge-deadline-ms", f"{left_s * 1e3:.3f}"))
        if call.stage:
            headers.append(("x-fmedge-stage", call.stage))
        if call.is_last:
            headers.append(("x-fmedge-workflow-last", "1"))
        return headers
