"""Until when the server's certificate holds, by the eyes of a client.

The rule: a handshake in memory says it, so that what TLS itself thinks of the certificate counts.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from fmedge.cli.checks.finding import Finding, error, ok, warning

_SOON_DAYS = 14
_MAX_ROUNDS = 10
_NOT_YET, _EXPIRED = 9, 10  # of OpenSSL's X509_V_ERR_*


def check_certificate(server: ssl.SSLContext, file: str, now_s: float) -> Iterator[Finding]:
    """server: with the certificate of `file`. now_s: by the wall clock."""
    try:
        until = _until(server, file)
    except ssl.SSLCertVerificationError as failure:
        if failure.verify_code in (_NOT_YET, _EXPIRED):
            when = "has expired" if failure.verify_code == _EXPIRED else "is not valid yet"
            yield error("tls", f"{file} {when}: clients refuse it", "renew it, or set the clock")
        return  # what else there may be depends on who asks: an authority of their own, say
    except ssl.SSLError:
        return
    days = (ssl.cert_time_to_seconds(until) - now_s) / 86_400
    if days < _SOON_DAYS:
        yield warning("tls", f"{file} expires in {max(0, days):.0f} days ({until})",
                      "renew it; then systemctl reload fmedge")  # fmt: skip
    else:
        yield ok("tls", f"{file} holds until {until}")


def _until(server: ssl.SSLContext, file: str) -> str:
    """The end of its time, after a handshake with a client that trusts this very certificate."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(cafile=file)
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_MAX_ROUNDS):
        is_done = [_step(answering), _step(asking)]
        if all(is_done):
            break
    found = asking.getpeercert() or {}
    return str(found["notAfter"])


def _step(side: ssl.SSLObject) -> bool:
    """True once its handshake is over."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
