"""Start-time fair queueing between API keys (Goyal, Vin and Cheng, SIGCOMM 1996): a request's start
tag is where its key's work so far ends in virtual time, but never before the tag served last; less
is served first. A key with weight 2 gets twice the tokens of a key with weight 1 while both have
work, an idle key saves nothing up, and no backlog of one key delays another's first request.
"""

from __future__ import annotations


class FairClock:
    """Virtual time in tokens. Memory is bounded by the keys that are ahead of it."""

    def __init__(self, max_keys: int = 4096) -> None:
        self._virtual = 0.0
        self._ends: dict[str, float] = {}
        self._max_keys = max_keys

    def tag(self, key: str, num_tokens: float, weight: float = 1.0) -> float:
        """The start tag of a new request of this many tokens (estimated); weight > 0."""
        start = max(self._virtual, self._ends.get(key, 0.0))
        if len(self._ends) >= self._max_keys:
            self._forget_past()
        self._ends[key] = start + num_tokens / weight
        return start

    @property
    def num_keys(self) -> int:
        """Keys that are remembered."""
        return len(self._ends)

    def peek(self, key: str) -> float:
        """The tag that a request of this key would get now."""
        return max(self._virtual, self._ends.get(key, 0.0))

    def serve(self, tag: float) -> None:
        """A request with this tag goes into service."""
        self._virtual = max(self._virtual, tag)

    def settle(self, key: str, num_tokens_off: float, weight: float = 1.0) -> None:
        """A request took this many tokens more (less: negative) than its tag had counted."""
        end = self._ends.get(key)
        if end is not None:
            self._ends[key] = end + num_tokens_off / weight

    def _forget_past(self) -> None:
        """A key whose work ends in the past is as good as a new one. Where all are ahead, those
        that are least so lose least."""
        ends = {key: end for key, end in self._ends.items() if end > self._virtual}
        if len(ends) >= self._max_keys:
            ahead = sorted(ends, key=ends.__getitem__)
            ends = {key: ends[key] for key in ahead[len(ahead) // 2 :]}
        self._ends = ends
