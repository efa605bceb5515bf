"""Profiles of replicas that a running server has, asked for over its API."""

from __future__ import annotations

import sys

import msgspec

from fmedge.cli.api import Api, ApiError
from fmedge.config import Config
from fmedge.errors import ModelNotFoundError
from fmedge.server.profiling import ProfileList, ReplicaProfile


def profile_served(config: Config, wanted: list[str], seconds: float) -> list[ReplicaProfile]:
    """Of the wanted models, or of all that it serves. ApiError in the server's words."""
    api = Api(config.client.url, config.client.api_key)
    names = [
        [str(model["name"]), *map(str, model.get("aliases") or ())]
        for model in api.fetch("/admin/status", "models")
    ]
    for name in wanted:
        if not any(name in of_one for of_one in names):
            served = ", ".join(of_one[0] for of_one in names)
            raise ModelNotFoundError(f"{api.url} does not serve {name!r}; it serves {served}")
    found: list[ReplicaProfile] = []
    for name in wanted or [of_one[0] for of_one in names]:
        if sys.stderr.isatty():
            sys.stderr.write(f"{name}: measured by {api.url}, {seconds:g} s a replica at most ...")
            sys.stderr.flush()
        try:
            answer = api.post("/admin/profile", {"model": name, "seconds": seconds})
        finally:
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
        try:
            found += msgspec.convert(answer, ProfileList).profiles
        except msgspec.ValidationError as error:
            raise ApiError(f"{api.url}: an answer that this fmedge cannot read: {error}") from error
    return found
