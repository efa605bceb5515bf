"""Other people's proxies and routers in front of the same emulated replicas, each of which is an
OpenAI-compatible endpoint of its own (`fmedge serve --emulate FILE --apart`).

The rule: a front is started as its documentation says for several equal servers, and knows of the
replicas what its users can tell it: their addresses, and how many requests one takes at once.
"""

from bench.fronts.apart import Endpoints, apart
from bench.fronts.commands import FRONTS
from bench.fronts.start import Address, front, why_absent

__all__ = ["FRONTS", "Address", "Endpoints", "apart", "front", "why_absent"]
