"""The OpenAI-compatible endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fmedge.http.app import build_app, build_runner

__all__ = ["build_app", "build_runner"]


def __getattr__(name: str) -> object:
    # fmedge.http.settings is needed long before aiohttp is: importing it must stay cheap.
    if name in __all__:
        from fmedge.http import app

        return getattr(app, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
