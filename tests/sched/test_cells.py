"""Cells in runs are the cells that a list of each would have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fmedge.sched.cells import KvCells

cell_events = st.lists(
    st.tuples(
        st.sampled_from(["extend", "extend", "cut", "copy"]),
        st.integers(0, 3),
        st.integers(0, 3),
        st.integers(1, 12),
    ),
    max_size=40,
)


@given(cell_events, st.booleans())
def test_cells_are_counted_as_if_each_was_listed(
    events: list[tuple[str, int, int, int]], is_shared: bool
) -> None:
    cells = KvCells(4, is_shared=is_shared)
    listed: list[list[object]] = [[] for _ in range(4)]
    for kind, seq, other, num in events:
        if kind == "extend":
            cells.extend(seq, num)
            listed[seq] += [object() for _ in range(num)]
        elif kind == "cut":
            cells.cut(seq, num)
            del listed[seq][num:]
        elif seq != other and listed[seq]:
            num = min(num, len(listed[seq]))
            cells.copy(seq, other, num)
            copied = listed[seq][:num]
            listed[other] = copied if is_shared else [object() for _ in copied]
        assert cells.lengths == [len(held) for held in listed]
        assert cells.num_used == len({id(cell) for held in listed for cell in held})
