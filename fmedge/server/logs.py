"""Log lines on stderr: text for people and journals, or a JSON object a line for collectors."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec

from fmedge.config import ServerConfig


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC seconds), level, logger, message, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def set_up(config: ServerConfig) -> None:
    """Everything that is logged in this process goes to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    if config.log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.root.level))
