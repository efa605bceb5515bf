"""The composition root: builds every part from a Config, starts them in order and stops them in
reverse. It decides nothing about requests."""

from fmedge.server.lifecycle import run

__all__ = ["run"]
