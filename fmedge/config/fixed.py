"""What a running server cannot change: settings of its sockets, its memory and its files.

The rule: each setting says so itself, where it stands; here it is only carried out.
"""

from __future__ import annotations

from msgspec.structs import replace

from fmedge.config.settings import ServerConfig, settings


def keep_fixed(old: ServerConfig, new: ServerConfig) -> tuple[ServerConfig, tuple[str, ...]]:
    """The new settings, but as they were where they cannot change, and the names of those that
    would have changed. Certificates can be renewed; TLS itself stays on or off."""
    kept = {
        s.key: getattr(old, s.key)
        for s in settings("server")
        if s.is_fixed and getattr(new, s.key) != getattr(old, s.key)
    }
    if bool(old.tls_cert) != bool(new.tls_cert):
        kept |= {"tls_cert": old.tls_cert, "tls_key": old.tls_key}
    return replace(new, **kept), tuple(kept)
