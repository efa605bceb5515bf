"""The embedded model's own tokenizer: byte-level BPE in which a word is the same everywhere.

llama.cpp splits text as SmolLM's tokenizer does (digits one by one, a space goes with the word
after it), but merges are learned on words without their space. So `Paris`, ` Paris` and `"Paris`
hold the same tokens, and copying a name into JSON is copying tokens. Frequent words in lower case,
which are rarely copied, get one token with their space after all.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from fmedge.models.sandboxed import make_environment
from training.conversation import Example

PRE = "smollm"
"""How llama.cpp names the way of splitting text."""
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP = (
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<tools>",
    "</tools>",
)
SPECIALS = (*CONTROL, *MARKUP)
VOCAB_SIZE = 2048
NUM_SPACED = 384
SPACE = "\u0120"
"""A space, as byte-level BPE writes it."""

_DIGIT = r"\p{N}"
_CONTRACTION = r"'s|'t|'re|'ve|'m|'ll|'d"
_SPLIT = _CONTRACTION + r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPLIT_APART = _CONTRACTION + r"|\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s"
_SPACED = re.compile(r"(?<= )[a-z]{2,}\b")

TEMPLATE = (Path(__file__).parent / "chat_template.jinja").read_text()


def learn(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of VOCAB_SIZE tokens from rendered conversations: same texts, same tokens."""
    texts = [_without_markup(text) for text in texts]
    num_plain = VOCAB_SIZE - len(SPECIALS) - NUM_SPACED
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = _splitting(_SPLIT_APART)
    learned.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=num_plain,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    state = contents(learned)
    counts = Counter(word for text in texts for word in _SPACED.findall(text))
    frequent = sorted(counts, key=lambda word: (-counts[word], word))
    spaced = [word for word in frequent if word in state.tokens][:NUM_SPACED]
    tokens = [*state.tokens, *(SPACE + word for word in spaced), *SPECIALS]
    merges = [*state.merges, *((SPACE, word) for word in spaced)]
    if len(tokens) != VOCAB_SIZE:
        raise ValueError(f"the texts yield {len(tokens)} tokens rather than {VOCAB_SIZE}")
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = _splitting(_SPLIT)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


@dataclass(frozen=True)
class Tokens:
    """A vocabulary as GGUF wants it: tokens in id order, merges in order of rank."""

    tokens: list[str]
    merges: list[tuple[str, str]]


def contents(tokenizer: Tokenizer) -> Tokens:
    """Its tokens and merges."""
    model = json.loads(tokenizer.to_str())["model"]
    ids = model["vocab"]
    return Tokens(sorted(ids, key=ids.__getitem__), [tuple(pair) for pair in model["merges"]])


def _splitting(pattern: str) -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_DIGIT), "isolated"),
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _without_markup(text: str) -> str:
    for token in SPECIALS:
        text = text.replace(token, "\n")
    return text


class Renderer:
    """Conversations to token ids, with the tokens that are to be learned marked."""

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        self._template = template()
        self.tokenizer = tokenizer
        if tokenizer is not None:
            self._start = tokenizer.token_to_id("<|im_start|>")
            self._end = tokenizer.token_to_id("<|im_end|>")
            self._opening = [self._start, *tokenizer.encode("assistant\n").ids]

    def text(self, example: Example) -> str:
        return self._template.render(
            messages=example.messages,
            tools=list(example.tools) or None,
            add_generation_prompt=False,
        )

    def encode(self, example: Example) -> tuple[np.ndarray, np.ndarray]:
        """(token ids, whether each is the assistant's: its text and the end of its turn)."""
        ids = self.tokenizer.encode(self.text(example)).ids
        learned = np.zeros(len(ids), dtype=bool)
        num_opening = len(self._opening)
        start = 0
        while start < len(ids):
            if ids[start : start + num_opening] == self._opening:
                stop = ids.index(self._end, start) + 1
                learned[start + num_opening : stop] = True
                start = stop
            else:
                start += 1
        return np.array(ids, dtype=np.int64), learned


def template() -> jinja2.Template:
    """The chat template, compiled in the environment in which fmedge renders it."""
    return make_environment().from_string(TEMPLATE)
