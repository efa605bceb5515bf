"""What holds for every test: none touches the state of whoever runs it, and none of hypothesis' is
late because the machine is busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("fmedge", deadline=None)
settings.load_profile("fmedge")


@pytest.fixture(scope="session", autouse=True)
def _state_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
