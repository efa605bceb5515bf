"""A real byte-level BPE tokenizer from text that every machine has; the same text, the same tokens.

Small vocabularies learn from sentences made of a fixed word list, middling ones from the language
reference that comes with the interpreter, large ones from the standard library's sources.
"""

from __future__ import annotations

import json
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_WORD_LIST = (
    "a about after again air all also an and animal answer any are as ask at away back be because "
    "been before began below between big book both boy but by call came can change children city "
    "close come could country cut day did different do does door down each earth eat end even "
    "every eye face family far father feet few find first follow food for form found from gave get "
    "girl give go good great group grow had hand hard has have he head hear help her here high him "
    "his home hot house how idea if important in into is it its just keep kind know land large "
    "last late learn leave left letter life light like line list little live long look made make "
    "man many may me mean men might mile more most mother mountain move much must my name near "
    "need never new next night no not now number of off often old on one only open or other our "
    "out over own page paper part people picture place plant play point river run said same saw "
    "say school sea second see sentence set she should show side small so some song soon sound "
    "spell start state still stop story study such take talk tell than that the their them then "
    "there these they thing think this those thought three through time to together too took tree "
    "try turn two under until up us use very walk want was watch water way we well went were what "
    "when where which while white who why will with word work world would write year you young"
)

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<think>", "</think>")

_WORDS_SUFFICE = 768
_REFERENCE_SUFFICES = 8192
_CHUNK_BYTES = 65536


@dataclass(frozen=True)
class SyntheticVocab:
    """What a GGUF says about its tokenizer, and how often each token occurs in the text.

    tokens in id order; merges as "left right"; num_plain tokens are text, the rest are specials;
    frequency: float64 [len(tokens)], sums to 1, 0 for tokens that the text lacks.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    num_plain: int
    specials: tuple[str, ...]
    frequency: np.ndarray

    def id(self, token: str) -> int:
        return self.tokens.index(token)


def word_sentences(num_sentences: int = 400) -> Iterator[str]:
    """Sentences of random words: always the same ones."""
    rng = random.Random(20240601)
    vocabulary = _WORD_LIST.split()
    for _ in range(num_sentences):
        words = rng.choices(vocabulary, k=rng.randint(4, 14))
        text = " ".join(words)
        yield f"{text[0].upper()}{text[1:]}{rng.choice('.?!')}\n"


def reference_text() -> Iterator[str]:
    """The language reference, topic by topic: English prose with code in it, about 700 kB."""
    for topic in sorted(topics):
        yield topics[topic]


def library_text(max_bytes: int = 12_000_000) -> Iterator[str]:
    """The standard library's Python files in sorted order, in pieces, at most max_bytes."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "__pycache__", "test", "tests"}
    left = max_bytes
    for path in sorted(root.rglob("*.py")):
        if skipped.intersection(path.relative_to(root).parts) or left <= 0:
            continue
        text = path.read_bytes()[:left].decode("utf-8", errors="ignore")
        left -= len(text.encode())
        for start in range(0, len(text), _CHUNK_BYTES):
            yield text[start : start + _CHUNK_BYTES]


def text_for(vocab_size: int) -> Iterator[str]:
    """Text with enough distinct pairs for that many tokens, and not much more."""
    if vocab_size <= _WORDS_SUFFICE:
        return word_sentences()
    return reference_text() if vocab_size <= _REFERENCE_SUFFICES else library_text()


def train(vocab_size: int, specials: tuple[str, ...]) -> SyntheticVocab:
    """A vocabulary of exactly vocab_size tokens: 256 bytes, merges, then the specials.

    ValueError when the text has too few pairs for that size.
    """
    num_plain = vocab_size - len(specials)
    if num_plain < 256:
        raise ValueError(f"vocab_size must be at least {256 + len(specials)}, got {vocab_size}")
    texts = list(text_for(vocab_size))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=num_plain,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    plain = sorted(model["vocab"], key=model["vocab"].__getitem__)
    if len(plain) < num_plain:
        raise ValueError(f"the text yields {len(plain)} tokens, {num_plain} were asked")
    counts = np.zeros(vocab_size)
    for encoding in tokenizer.encode_batch(texts[:: max(1, len(texts) // 50)]):
        counts += np.bincount(encoding.ids, minlength=vocab_size)
    merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    return SyntheticVocab(
        tokens=(*plain, *specials),
        merges=merges,
        num_plain=num_plain,
        specials=specials,
        frequency=counts / counts.sum(),
    )
