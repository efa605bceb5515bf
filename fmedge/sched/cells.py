"""KV cells without KV: which sequence holds how many, and which of them several share.

The rule: sequences share cells from their beginning on and nowhere else, as `seq_copy` copies a
prefix. So a sequence is a row of runs of cells, each held by one or more sequences, and what is in
use is the runs' lengths together.
"""

from __future__ import annotations


class _Run:
    """Cells in a row that the same sequences hold."""

    __slots__ = ("length", "num_holders")

    def __init__(self, length: int, num_holders: int) -> None:
        self.length = length
        self.num_holders = num_holders


class KvCells:
    """The cells of `num_seqs` sequences. is_shared: a copy shares its source's cells; otherwise
    every sequence has its own."""

    def __init__(self, num_seqs: int, *, is_shared: bool) -> None:
        self._is_shared = is_shared
        self._runs: list[list[_Run]] = [[] for _ in range(num_seqs)]
        self.lengths = [0] * num_seqs
        self.num_used = 0

    def extend(self, seq: int, num_tokens: int) -> None:
        """Append cells that no other sequence holds."""
        self.lengths[seq] += num_tokens
        self.num_used += num_tokens
        runs = self._runs[seq]
        if runs and runs[-1].num_holders == 1:
            runs[-1].length += num_tokens
        else:
            runs.append(_Run(num_tokens, 1))

    def cut(self, seq: int, num_kept: int) -> None:
        """Let go of all cells after the first `num_kept`."""
        runs = self._runs[seq]
        num_cut = self.lengths[seq] - num_kept
        while num_cut > 0:
            run = runs[-1]
            if run.length > num_cut:
                run = self._split(run, run.length - num_cut)
            num_cut -= run.length
            runs.pop()
            run.num_holders -= 1
            if run.num_holders == 0:
                self.num_used -= run.length
        self.lengths[seq] = min(num_kept, self.lengths[seq])

    def copy(self, src: int, dst: int, num_tokens: int) -> None:
        """Have dst hold the first `num_tokens` cells of src, and nothing else."""
        self.cut(dst, 0)
        if not self._is_shared:
            self.extend(dst, num_tokens)
            return
        num_left = num_tokens
        for run in tuple(self._runs[src]):
            if num_left <= 0:
                break
            if run.length > num_left:
                self._split(run, num_left)
            run.num_holders += 1
            self._runs[dst].append(run)
            num_left -= run.length
        self.lengths[dst] = num_tokens

    def _split(self, run: _Run, num_kept: int) -> _Run:
        """Leave a run its first cells; the rest becomes a run after it, for all that hold it."""
        rest = _Run(run.length - num_kept, run.num_holders)
        run.length = num_kept
        for runs in self._runs:
            if run in runs:
                runs.insert(runs.index(run) + 1, rest)
        return rest
