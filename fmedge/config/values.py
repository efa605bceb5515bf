"""One value of a file, variable or flag as its setting's type; else a ConfigError that says where
it stands, what was expected and what was there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from fmedge.errors import ConfigError

if TYPE_CHECKING:
    from fmedge.config.settings import Setting

T = TypeVar("T")


def bare(annotation: Any) -> Any:
    """The type without its Annotated."""
    return annotation.__origin__ if get_origin(annotation) is Annotated else annotation


def parse(setting: Setting, value: Any, where: str) -> Any:
    """A flag's or variable's text as the setting's type; text lists are separated by commas."""
    if not isinstance(value, str):
        return check(setting, value, where)
    kind, text = bare(setting.type), value.strip()
    if kind is str or setting.choices:
        return check(setting, text, where)
    if setting.key == "tensor_overrides":
        pairs = [part.rpartition("=") for part in text.split(",") if part]
        if any(not sep or not left or not right for left, sep, right in pairs):
            raise ConfigError(f"{where}: expected REGEX=BUFFER_TYPE[,...], got {text!r}")
        return tuple((left, right) for left, _, right in pairs)
    if kind not in (int, float, bool):
        if text == "none" and type(None) in get_args(kind):
            return ()
        return check(setting, [part.strip() for part in text.split(",") if part.strip()], where,
                     strict=False)  # fmt: skip
    if setting.env == "FMEDGE_PORT" and text.startswith("tcp://"):
        raise ConfigError(
            f"{where}={text}: not a port. Kubernetes sets this for a service named fmedge: turn "
            "enableServiceLinks off, or name the service otherwise"
        )
    return check(setting, text, where, strict=False)


def check(setting: Setting, value: Any, where: str, *, strict: bool = True) -> Any:
    """A value of the right type already, or (not strict) its text."""
    if setting.choices:
        words = value if isinstance(value, list) else [value]
        for word in words:
            if isinstance(word, str) and word not in setting.choices:
                allowed = ", ".join(c or '""' for c in setting.choices)
                raise ConfigError(
                    f"{where}: {word!r} is not one of {allowed}{nearest(word, setting.choices)}"
                )
    if setting.is_path and isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{where}: a path has no zero byte")
    if setting.key == "tensor_overrides" and isinstance(value, dict):
        value = list(value.items())
    return convert(value, setting.type, where, strict=strict)


def convert(value: Any, kind: Any, where: str, *, strict: bool = True) -> Any:
    """`value` as the annotated type `kind`."""
    try:
        return msgspec.convert(value, kind, strict=strict)
    except (msgspec.ValidationError, OverflowError) as error:
        reason = str(error).partition(" - at ")[0].replace("`", "").replace(" | null", "")
        if not strict:  # text was given, as it must be: what counts is what it should read as
            reason = reason.partition(", got ")[0]
        reason = reason[:1].lower() + reason[1:]
        raise ConfigError(f"{where}: {reason} (got {_shown(value)})") from error


def finite(value: Any, kind: Any, where: str) -> float:
    """`value` as the annotated float `kind`, whose bounds let nan pass."""
    found = float(convert(value, kind, where))
    if not isfinite(found):
        raise ConfigError(f"{where}: expected a finite number (got {value!r})")
    return found


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a hexadecimal number of thousands of digits, for one
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 80 else text[:77] + "..."


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean ...?`, or "" where nothing is near."""
    import difflib

    close = difflib.get_close_matches(word, [w for w in words if w], n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def one_of(word: str, words: Iterable[str]) -> str:
    """As `nearest`, and all of them where nothing is near."""
    return nearest(word, words) or f"; there are {', '.join(words)}"


def known_class(name: str, known: Mapping[str, T], where: str) -> T:
    """The class of service of that name; ConfigError where there is none."""
    if name in known:
        return known[name]
    hint = one_of(name, known) if known else f"; write an [sla.{name}] section"
    raise ConfigError(f"{where}: there is no class {name!r}{hint}")


def typed(
    block: Mapping[str, Any], types: Mapping[str, Any], where: str, meant: Mapping[str, str]
) -> dict[str, Any]:
    """A block's values by key, each of its type. meant: keys that others use for ours."""
    values: dict[str, Any] = {}
    for key, value in block.items():
        if key not in types:
            raise unknown(where, key, list(types), {}, meant)
        values[key] = convert(value, types[key], f"{where}: {key}")
    return values


def unknown(
    where: str,
    key: str,
    allowed: list[str],
    known: Mapping[str, Setting],
    meant: Mapping[str, str] | None = None,
) -> ConfigError:
    """Of a key that does not stand in `allowed`; `known` tells of another section's, `meant` what
    else a key is called here."""
    hint = nearest(key, allowed)
    home = known.get(key)
    if meant and key in meant:
        hint = f"; did you mean {meant[key]!r}?"
    elif home is not None:
        hint = f"; it belongs to [{home.section}]"
    elif not hint:
        hint = f"; known are {', '.join(allowed)}"
    return ConfigError(f"{where}: unknown key {key!r}{hint}")
