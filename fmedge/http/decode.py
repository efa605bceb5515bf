"""Bytes to request Structs. What is wrong with a body is said with the JSON path where it is."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import inspect

from fmedge.errors import RequestError
from fmedge.http.schemas import REFUSED

T = TypeVar("T")

MAX_DEPTH = 64
_encode = msgspec.json.Encoder().encode
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.DOTALL)
_MISSING = re.compile(r"missing required field `(.*)`")
_STEP = re.compile(r"\.([^.\[]+)|\[([^\]]*)\]")


class BodyDecoder(Generic[T]):
    """Decodes one kind of body; thread-safe."""

    def __init__(self, struct: type[T]) -> None:
        self._struct = struct
        self._decoder = msgspec.json.Decoder(struct)

    def decode(self, body: bytes) -> T:
        """Raises RequestError for whatever `body` is not."""
        if not body:
            raise RequestError(
                "The request body is empty: send a JSON object.", code="invalid_json"
            )
        try:
            return self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise self._explained(str(error)) from None
        except msgspec.DecodeError as error:
            raise RequestError(
                f"The request body is not valid JSON: {error}.", code="invalid_json"
            ) from None
        except UnicodeDecodeError as error:
            raise RequestError(
                f"The request body is not valid UTF-8: {error.reason} "
                f"(byte 0x{error.object[error.start]:02x} in a string).",
                code="invalid_json",
            ) from None
        except RecursionError:
            raise RequestError(
                "The request body is nested too deeply.", code="invalid_json"
            ) from None

    def _explained(self, text: str) -> RequestError:
        before, found, place = text.rpartition(" - at `")
        what, where = (before, place.removesuffix("`")) if found else (text, "$")
        if unknown := _UNKNOWN.search(what):
            name = unknown[1]
            fields = sorted(self._fields_at(where))
            return RequestError(
                f"Unknown field `{_shown(name)}`{_inside(where)}.{nearest(name, fields)}",
                param=_join(where, _shown(name)),
                code="unknown_parameter",
            )
        if missing := _MISSING.search(what):
            param = _join(where, missing[1])
            return RequestError(
                f"The field `{param}` is required.", param=param, code="missing_required_parameter"
            )
        place = where.removeprefix("$").removeprefix(".")
        leaf = where.rpartition(".")[2]
        if leaf in REFUSED and what.startswith("Expected `null`"):
            return RequestError(
                f"`{place}` is not supported: {REFUSED[leaf]}.",
                param=place,
                code="unsupported_parameter",
            )
        if what.startswith("Invalid enum value"):
            allowed = [v for t in self._types_at(where) for v in _literals(t)]
            known = ", ".join(f"`{_encode(value).decode()}`" for value in allowed)
            return RequestError(
                f"{what}, in `{place}`: it must be one of {known}.",
                param=place,
                code="invalid_value",
            )
        if what.startswith("Invalid value") and leaf in ("type", "role"):
            return self._wrong_tag(what, where, leaf)
        return RequestError(
            f"{what}{f', in `{place}`' if place else ''}.",
            param=place or None,
            code="invalid_value",
        )

    def _wrong_tag(self, what: str, where: str, leaf: str) -> RequestError:
        param = where.removeprefix("$.")
        tags = sorted({str(s.tag) for s in self._structs_at(where.rpartition(".")[0]) if s.tag})
        known = ", ".join(f"`{tag}`" for tag in tags)
        why = " This server reads text only." if ".content[" in where else ""
        return RequestError(
            f"{what} in `{param}`: the {leaf} must be one of {known}.{why}",
            param=param,
            code="invalid_value",
        )

    def _fields_at(self, where: str) -> set[str]:
        names = set()
        for struct in self._structs_at(where):
            names |= {field.encode_name for field in struct.fields}
            names |= {struct.tag_field} if struct.tag_field else set()
        return names

    def _structs_at(self, where: str) -> list[inspect.StructType]:
        return [t for t in self._types_at(where) if isinstance(t, inspect.StructType)]

    def _types_at(self, where: str) -> list[inspect.Type]:
        found: list[inspect.Type] = list(_alternatives(inspect.type_info(self._struct)))
        for name, _ in _STEP.findall(where):
            found = [inner for outer in found for inner in _descend(outer, name)]
        return found


def _literals(info: inspect.Type) -> tuple[Any, ...]:
    return tuple(info.values) if isinstance(info, inspect.LiteralType) else ()


def _alternatives(info: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(info, inspect.Metadata):
        yield from _alternatives(info.type)
    elif isinstance(info, inspect.UnionType):
        for inner in info.types:
            yield from _alternatives(inner)
    else:
        yield info


def _descend(info: inspect.Type, name: str) -> Iterator[inspect.Type]:
    """The types of a field (name), or of an item (name "")."""
    if isinstance(info, inspect.StructType) and name:
        for field in info.fields:
            if field.encode_name == name:
                yield from _alternatives(field.type)
    elif isinstance(info, inspect.ListType) and not name:
        yield from _alternatives(info.item_type)
    elif isinstance(info, inspect.DictType) and not name:
        yield from _alternatives(info.value_type)


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean `x`?' for the known name most like `name`; '' if none is."""
    close = difflib.get_close_matches(name[:256], list(known), n=1, cutoff=0.5)
    return f" Did you mean `{close[0]}`?" if close else ""


def listed(names: Iterable[str]) -> str:
    """' Known: `a`, `b`.' of at most 16 names; '' if there are none."""
    some = list(names)
    shown = ", ".join(f"`{name}`" for name in some[:16]) + (", ..." if len(some) > 16 else "")
    return f" Known: {shown}." if some else ""


def check_depth(value: Any, param: str) -> None:
    """Raises RequestError when free-form JSON is nested deeper than MAX_DEPTH: what reads it later
    (templates, schema compilers) recurses."""
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RequestError(
        f"`{param}` is nested deeper than {MAX_DEPTH} levels.", param=param, code="invalid_value"
    )


def _join(where: str, name: str) -> str:
    prefix = where.removeprefix("$").removeprefix(".")
    return f"{prefix}.{name}" if prefix else name


def _inside(where: str) -> str:
    return "" if where == "$" else f" in `{where.removeprefix('$.')}`"


def _shown(name: str) -> str:
    return name if len(name) <= 100 else name[:100] + "..."
