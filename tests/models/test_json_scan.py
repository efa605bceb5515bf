from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from fmedge.models.json_scan import ValueScanner

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON, st.sampled_from([",", "}", "]", " x"]), st.booleans(), st.integers(1, 4))
def test_finds_the_end_of_any_value(
    value: object, after: str, ensure_ascii: bool, size: int
) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    stream = text + after
    scanner = ValueScanner()
    taken = ""
    for start in range(0, len(stream), size):
        chunk = stream[start : start + size]
        end = scanner.scan(chunk, 0)
        taken += chunk[:end]
        if scanner.done:
            break
        assert end == len(chunk)
    assert scanner.done
    assert taken == text
