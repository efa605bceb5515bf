"""What holds for every test: none touches the state of whoever runs it, none of hypothesis' is late
because the machine is busy, and signals reach the programs that tests start."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("fmedge", deadline=None)
settings.load_profile("fmedge")

# In the background or under nohup they are ignored, which children would inherit; they do not
# inherit handlers.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)


@pytest.fixture(scope="session", autouse=True)
def _state_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
