"""What the assistant says of a tool's result: always the same words for the same result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

NONE_FITS = "None of my tools can do that."
DONE = "Done."
_UNITS = ("km", "kg", "cm", "percent", "minutes", "hours", "days", "celsius", "usd", "eur", "mb")
_GOOD_WORDS = ("ok", "done", "success", "sent", "saved", "created", "updated", "completed")


def sentence(result: str) -> str:
    """The one sentence for a result, JSON or plain text."""
    try:
        content = json.loads(result)
    except ValueError:
        content = result
    if content is True or content is None or _is_good(content):
        return DONE
    if content is False:
        return "That did not work."
    if not isinstance(content, dict):
        return f"{_capital(_clause('result', content))}."
    if "error" in content:
        return f"That did not work: {content['error']}."
    is_done = any(value is True or _is_good(value) for value in content.values())
    if any(value is False for value in content.values()):
        return "That did not work."
    clauses = [
        _clause(key, value)
        for key, value in content.items()
        if value is not True and not _is_good(value)
    ]
    if not clauses:
        return DONE
    text = f"{_capital(_joined(clauses))}."
    return f"{DONE} {text}" if is_done else text


def answer(results: Sequence[str], subjects: Sequence[str]) -> str:
    """The answer to one result or to several: then each tells what it is about, if known."""
    sentences = [sentence(result) for result in results]
    if len(results) == 1 or set(sentences) == {DONE}:
        return sentences[0]
    return " ".join(
        f"{subject}: {text[:1].lower()}{text[1:]}" if subject else text
        for subject, text in zip(subjects, sentences, strict=True)
    )


def _is_good(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in _GOOD_WORDS


def _clause(key: str, value: Any) -> str:
    words = key.replace("_", " ")
    thing, _, unit = words.rpartition(" ")
    if thing and unit in _UNITS:
        return f"the {thing} is {value} {unit}"
    if isinstance(value, list):
        if not value:
            return f"there are no {words}" if words.endswith("s") else "there are no results"
        words = words if words.endswith("s") else f"{words}s"
        return f"the {words} are {_joined([str(item) for item in value])}"
    is_many = words.endswith("s") and not words.endswith(("ss", "us", "is"))
    return f"the {words} {'are' if is_many else 'is'} {value}"


def _joined(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
