"""Log lines on stderr: text for people, the same with priorities for the journal, which knows the
time itself, or a JSON object a line for collectors."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec

from fmedge.config import ServerConfig
from fmedge.config.service import is_journal

DEBUG_PRIORITY = 7
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)


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


class JournalFormatter(logging.Formatter):
    """Each line begins with its priority, as systemd reads it (sd-daemon(3)); a message of several
    lines is several entries there."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), DEBUG_PRIORITY)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


def set_up(config: ServerConfig) -> None:
    """Everything that is logged in this process goes to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(config.log_format))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(max(logging.WARNING, logging.root.level))


def _formatter(chosen: str) -> logging.Formatter:
    if chosen == "auto":
        chosen = "journal" if is_journal(sys.stderr.fileno()) else "text"
    if chosen == "json":
        return JsonFormatter()
    if chosen == "journal":
        return JournalFormatter()
    return logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
