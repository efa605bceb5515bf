"""The engine loop on llama.cpp: sharing, preemption and grammars change no token that matters."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import llguidance
import pytest

from fmedge._native.engine import Engine
from fmedge.replica.loop import EngineLoop
from fmedge.replica.protocol import Failed, Step, Submit, WorkerMessage
from fmedge.types import EngineSettings, Grammar, SamplingParams
from tests.fakes import pack
from tests.synthetic import cached

GREEDY = SamplingParams(temperature=0.0)


@pytest.fixture(scope="module", params=[False, True], ids=["streams", "unified"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    settings = EngineSettings(
        model_path=str(cached("tiny")),
        ctx_size=512,
        slots=4,
        threads=1,
        kv_unified=request.param,
        kv_tokens=640 if request.param else 0,
    )
    engine = Engine.load(settings)
    yield engine
    engine.close()


class Driver:
    def __init__(self, engine: Engine) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.finish: dict[int, str] = {}
        self.num_cached = 0
        self.num_preempted = 0
        self.loop = EngineLoop(engine, self._emit)

    def _emit(self, message: WorkerMessage) -> None:
        assert not isinstance(message, Failed), message
        if isinstance(message, Step):
            self.num_preempted += message.num_preempted
            for part in message.sequences:
                self.tokens.setdefault(part.request_id, []).extend(part.tokens)
                self.num_cached += max(0, part.num_cached_tokens)
                if part.finish is not None:
                    self.finish[part.request_id] = part.finish

    def run(self, num_steps: int = 20_000) -> None:
        for _ in range(num_steps):
            if not self.loop.run_step():
                return

    def close(self) -> None:
        self.loop.clear_cache()
        self.loop.close()


def _submit(request_id: int, prompt: list[int], max_tokens: int, *, share: bool) -> Submit:
    return Submit(
        request_id=request_id,
        tokens=pack(prompt),
        num_prompt_tokens=len(prompt),
        max_tokens=max_tokens,
        sampling=GREEDY,
        ignore_eos=True,
        cache_prompt=share,
        priority=request_id % 2,
    )


def test_greedy_output_is_the_same_with_and_without_sharing(engine: Engine) -> None:
    chance = random.Random(1)
    stem = [chance.randrange(20, 400) for _ in range(150)]
    requests = []
    for i in range(16):
        own = [chance.randrange(20, 400) for _ in range(chance.randrange(1, 40))]
        requests.append((i, stem[: chance.choice([0, 50, 150])] + own, chance.randrange(5, 80)))
    alone: dict[int, list[int]] = {}
    for i, prompt, max_tokens in requests:
        driver = Driver(engine)
        driver.loop.submit(_submit(i, prompt, max_tokens, share=False))
        driver.run()
        alone |= driver.tokens
        driver.close()
    driver = Driver(engine)
    for i, prompt, max_tokens in requests:
        driver.loop.submit(_submit(i, prompt, max_tokens, share=True))
        driver.run(chance.randrange(4))
    driver.run()
    driver.close()
    assert driver.tokens == alone
    assert driver.num_cached > 500


def test_greedy_output_survives_preemption(engine: Engine) -> None:
    if not engine.info.kv_unified:
        pytest.skip("a stream a sequence cannot run out of KV")
    prompts = [[20 + i, 30, 40 + i] for i in range(4)]
    alone: dict[int, list[int]] = {}
    driver = Driver(engine)
    for i, prompt in enumerate(prompts):
        driver.loop.submit(_submit(i, prompt, 300, share=False))
        driver.run()
        alone[i] = driver.tokens[i]
    for i, prompt in enumerate(prompts):
        driver.tokens[i] = []
        driver.loop.submit(_submit(i, prompt, 300, share=True))
    driver.run()
    driver.close()
    assert driver.num_preempted > 0
    assert driver.tokens == alone


def test_a_schema_is_kept_to(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["ada", "bob"]}, "age": {"type": "integer", "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    source = llguidance.LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_flexible": False}
    )
    driver = Driver(engine)
    prompt = engine.vocab.tokenize("Who?", add_special=True, parse_special=False)
    for i in range(6):
        driver.loop.submit(
            Submit(
                request_id=i,
                tokens=prompt,
                num_prompt_tokens=len(prompt) // 4,
                max_tokens=60,
                sampling=SamplingParams(seed=i),
                grammar=Grammar(source),
            )
        )
    driver.run()
    driver.close()
    for i in range(6):
        text = b"".join(engine.vocab.piece(token) for token in driver.tokens[i]).decode()
        answer = json.loads(text)
        assert answer["name"] in ("ada", "bob")
        assert answer["age"] <= 99
        assert driver.finish[i] == "stop"
