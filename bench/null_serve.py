"""`python -m bench.null_serve ARGUMENTS`: `fmedge serve` whose workers have the null engine."""

from __future__ import annotations

import sys

from fmedge import cli
from fmedge.replica import local
from fmedge.replica.protocol import KvStoreSettings
from fmedge.types import EngineSettings


class NullReplica(local.LocalReplica):
    """A worker process like any other, but for its engine."""

    def __init__(
        self,
        name: str,
        model: str,
        settings: EngineSettings,
        *,
        kv_store: KvStoreSettings | None = None,  # there is no KV to keep
    ) -> None:
        super().__init__(name, model, settings, engine="bench.null_engine:load")


if __name__ == "__main__":
    setattr(local, "LocalReplica", NullReplica)  # noqa: B010 - the server imports it when it starts
    sys.argv[1:1] = ["serve"]
    sys.exit(cli.main())
