"""Who may talk to the server, and over what: the key file and the TLS context."""

from __future__ import annotations

import hashlib
import logging
import ssl
from pathlib import Path

from fmedge.config import ServerConfig
from fmedge.config.service import is_credential
from fmedge.errors import ConfigError
from fmedge.http.settings import ApiKey

log = logging.getLogger(__name__)


def read_api_keys(config: ServerConfig) -> tuple[ApiKey, ...]:
    """One key a line, or `NAME KEY`; blank lines and lines that begin with # are skipped.

    A file without a key is an error: it would open the server to everyone.
    """
    if not config.api_key_file:
        return ()
    path = Path(config.api_key_file)
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: the API key file is not UTF-8 text") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the API key file: {error.strerror}") from error
    if mode & 0o077 and not is_credential(str(path)):
        log.warning("%s: other users may read the API keys; run: chmod 600 %s", path, path)
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) > 2:
            raise ConfigError(f"{path}: line {number}: expected KEY or NAME KEY")
        secret = fields[-1]
        if not secret.isascii() or not secret.isprintable():
            raise ConfigError(f"{path}: line {number}: a key is printable ASCII")
        name = fields[0] if len(fields) == 2 else _fingerprint(secret)
        if name in keys:
            raise ConfigError(f"{path}: line {number}: a second key called {name!r}")
        keys[name] = ApiKey(name, secret)
    if not keys:
        raise ConfigError(f"{path}: holds no API key: write one a line")
    return tuple(keys.values())


def _fingerprint(secret: str) -> str:
    return "key-" + hashlib.sha256(secret.encode()).hexdigest()[:8]


def renew(live: ssl.SSLContext, fresh: ssl.SSLContext) -> None:
    """Connections that come from now on to who listens with the live context get the fresh one's
    certificate; nothing can fail any more."""

    def switch(connection: ssl.SSLObject | ssl.SSLSocket, *_: object) -> None:
        connection.context = fresh

    live.sni_callback = switch


def tls_context(config: ServerConfig) -> ssl.SSLContext | None:
    """None without a certificate; ConfigError names the file that does not fit."""
    if not config.tls_cert:
        return None
    for file in (config.tls_cert, config.tls_key):
        try:
            with open(file, "rb"):
                pass
        except OSError as error:
            raise ConfigError(f"{file}: cannot read it for TLS: {error.strerror}") from error
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def no_password() -> str:
        raise ConfigError(f"{config.tls_key}: the TLS key is encrypted: store it without password")

    try:
        context.load_cert_chain(config.tls_cert, config.tls_key, password=no_password)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{config.tls_cert} and {config.tls_key} are no certificate with its key: "
            f"{error.reason or error}"
        ) from error
    return context
