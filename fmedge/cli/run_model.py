"""Which model `fmedge run` asks, and what.

The rule: --model names the model, and then all words are the question. Without it the first word
names the model, but for one with white space in it, which is a question for the default model
unless a served model or a file is called so. A word that names nothing is an error and never a
question, as it may be a typing error.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Sequence

from fmedge.config import Config, names_of
from fmedge.errors import ModelNotFoundError

_PATH_STARTS = ("/", "./", "../", "~")

HELP = """\
Without a model, the first one of the configuration answers (with --url the first one that the
server serves), else `embedded`, a tiny demonstration model that is part of fmedge.

A first argument with white space in it is the question and not the model, unless a file or a
served model is called so: fmedge run "What is the capital of France?"
With --model, every argument is the question: fmedge run --model embedded Hello
"""


def choose(
    named: str | None,
    words: Sequence[str],
    config: Config,
    served: Collection[str],
    *,
    url: str = "",
) -> tuple[str, list[str]]:
    """The model and the words of the question.

    named: of --model. served: what the server calls its models; url: of the one that must answer,
    "" where a server may be started. ModelNotFoundError says how to ask the default model.
    """
    default = _default(config, served, url)
    model, asked = default if named is None else named, list(words)
    if named is None and words and _is_model(words[0], served, url):
        model, asked = words[0], asked[1:]
    try:
        _check(model, config, served, url)
    except ModelNotFoundError as error:
        if model in (default, named) or _is_path(model):
            raise
        server = ["--url", url] if url else []
        command = shlex.join(["fmedge", "run", *server, "--model", default, *words])
        raise ModelNotFoundError(f"{error} To ask {default} that: {command}") from None
    return model, asked


def file_of(model: str, config: Config) -> str:
    """What the configuration says that a model is loaded from."""
    return next((m.model for m in config.models if model in names_of(m)), model)


def _default(config: Config, served: Collection[str], url: str) -> str:
    if url:
        return next(iter(served), "")
    first = config.models[0]
    return next((n for n in names_of(first) if n in served), first.name or first.model)


def _is_model(word: str, served: Collection[str], url: str) -> bool:
    """Whether the first word is meant to name a model."""
    if len(word.split()) == 1 or word in served:
        return True
    return not url and (_is_path(word) or os.path.isfile(os.path.expanduser(word)))


def _is_path(text: str) -> bool:
    """Whether it looks like a file, or like a model on the hub, and like no question."""
    is_local = text.startswith(_PATH_STARTS) and text.lower().endswith(".gguf")
    return is_local or text.startswith("hf:")


def _check(model: str, config: Config, served: Collection[str], url: str) -> None:
    """FmedgeError where it names nothing."""
    if model in served:
        return
    if url:
        raise ModelNotFoundError(
            f"{url} does not serve {model!r}; it serves {', '.join(served) or 'nothing'}."
        )
    file = file_of(model, config)
    if file.startswith("hf:"):
        return  # fetched where it is missing
    from fmedge.models.registry import Registry

    Registry().resolve(file)
