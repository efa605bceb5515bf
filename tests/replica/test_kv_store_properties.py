"""With a store that puts KV away and brings it back: still every request gets its own tokens."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from unittest import mock

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fmedge.replica import kv_store
from fmedge.replica.kv_store import KvStore
from fmedge.replica.protocol import KvStoreSettings
from fmedge.types import EngineSettings
from tests.fakes import FakeEngine
from tests.replica.test_loop_properties import Request, engines, requests, run


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(requests, min_size=2, max_size=24),
    engines,
    st.sampled_from([0, 0, 8]),
    st.sampled_from([200, 600, 5000]),
    st.sampled_from([0, 0, 0, 2000, 100_000]),
)
def test_each_request_gets_its_own_tokens_whatever_is_put_away(
    wanted: Sequence[Request], shape: dict[str, int], window: int, memory: int, disk: int
) -> None:
    engine = FakeEngine(**shape, window_tokens=window)
    with mock.patch.object(kv_store, "MIN_TOKENS", 2), tempfile.TemporaryDirectory() as folder:
        store = KvStore(
            engine,
            KvStoreSettings(memory_bytes=memory, folder=folder, disk_bytes=disk),
            EngineSettings(model_path=__file__),
            clock=engine.clock,
        )
        run(wanted, engine, store)
        event("restored" if store.num_restored else "not restored")
        store.close()
