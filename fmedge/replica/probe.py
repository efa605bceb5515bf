"""Asks what devices there are and how fast they are, in a child process; every wait is bounded.

The rule: no device is opened in this process. A driver's context costs memory on the device for as
long as its process lives, and a driver that fails may end the process.
"""

from __future__ import annotations

from types import TracebackType

import msgspec

from fmedge import children
from fmedge.errors import DeviceError
from fmedge.replica.errand import Errand, ErrandError, NotStartedError
from fmedge.replica.probe_child import Answer, ListDevices, MeasureDevice, Question
from fmedge.replica.speed import Speed

LIST_TIMEOUT_S = 30.0
"""Drivers of many GPUs take seconds to start."""

MEASURE_TIMEOUT_S = 20.0
"""Beyond the budget: first kernels are compiled or loaded."""


class Prober:
    """One child, started at the first question; use as `async with`. Questions one at a time.

    endpoint: the device server whose devices are meant instead of this machine's; the caller has
    looked at it (`rpc.look_at`). Every method raises DeviceError, and a later question then starts
    a new child.
    """

    def __init__(self, endpoint: str = "", *, command: tuple[str, ...] | None = None) -> None:
        """command: the child's, for tests; it gets the descriptor's number and the endpoint."""
        self._endpoint = endpoint
        self._errand = Errand(
            children.PROBE,
            arguments=(endpoint,) if endpoint else (),
            command=command,
        )

    @property
    def what(self) -> str:
        return f"the device server {self._endpoint}" if self._endpoint else "this machine's devices"

    async def devices(self, timeout_s: float = LIST_TIMEOUT_S) -> Answer:
        """The devices, in ggml's order, with llama.cpp's build."""
        return await self._ask(ListDevices(), timeout_s)

    async def measure(
        self, device: str, *, threads: int, budget_s: float, timeout_s: float = MEASURE_TIMEOUT_S
    ) -> Speed:
        """threads: of the host, where that is the device. timeout_s: beyond the budget."""
        question = MeasureDevice(device=device, threads=threads, budget_s=budget_s)
        answer = await self._ask(question, budget_s + timeout_s)
        if answer.speed is None:
            raise DeviceError(f"{device} of {self.what} told no speed")
        return answer.speed

    async def close(self) -> None:
        """Ends the child. Idempotent."""
        await self._errand.close()

    async def __aenter__(self) -> Prober:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _ask(self, question: Question, timeout_s: float) -> Answer:
        try:
            line = await self._errand.ask(msgspec.json.encode(question), timeout_s)
            answer = msgspec.json.decode(line, type=Answer)
        except NotStartedError as error:
            raise DeviceError(f"{self.what}: cannot start a process: {error.reason}") from error
        except ErrandError as error:
            raise DeviceError(f"{self.what}: the process that asked them {error}") from error
        except msgspec.MsgspecError as error:
            raise DeviceError(f"{self.what}: an answer without sense ({error})") from error
        if answer.error:
            raise DeviceError(f"{self.what}: {answer.error}")
        return answer
