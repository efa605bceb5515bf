"""A blocking client of a server's HTTP API, for the verbs that ask one: no event loop, no imports
beyond the standard library, so that `fmedge ps` answers at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fmedge.errors import ConfigError, FmedgeError

CONNECT_TIMEOUT_S = 5.0
STREAM_TIMEOUT_S = 600.0
MAX_LINE_BYTES = 16 << 20


class ApiError(FmedgeError):
    """The server answered with an error, or not at all. `status` 0: no answer."""

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    """One server. `url` is http(s)://host[:port][/prefix][/v1] or unix:/path/to.sock."""

    def __init__(
        self,
        url: str,
        key: str = "",
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        read_timeout_s: float = STREAM_TIMEOUT_S,
    ) -> None:
        self.url = url
        self._key = key
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        parts = urlsplit(url if "://" in url or url.startswith("unix:") else f"http://{url}")
        self._parts = parts
        self._prefix = "" if parts.scheme == "unix" else parts.path.rstrip("/").removesuffix("/v1")
        if parts.scheme not in ("http", "https", "unix"):
            raise ConfigError(f"{url}: not an http, https or unix: URL")
        try:
            self._port = parts.port
        except ValueError as error:
            raise ConfigError(f"{url}: not a URL: {error}") from error
        if parts.scheme != "unix" and not parts.hostname:
            raise ConfigError(f"{url}: not a URL: it names no host")

    def get(self, path: str) -> tuple[int, Any]:
        """The status and the decoded body (None where it is not JSON); ApiError if unreachable."""
        connection, response = self._request("GET", path, None)
        try:
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{self.url}: the answer broke off: {error}") from error
        finally:
            connection.close()
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, None

    def fetch(self, path: str, field: str) -> Any:
        """The field of the answer to a GET; ApiError, in the server's words, for any but a 200."""
        status, body = self.get(path)
        if status == 401:
            raise ApiError(f"{self.url} asks for an API key: set FMEDGE_API_KEY", status=status)
        if status != 200 and isinstance(body, dict) and "error" in body:
            raise _error_of(status, json.dumps(body).encode(), self.url)
        if status != 200 or not isinstance(body, dict) or field not in body:
            place = path.partition("?")[0]
            raise ApiError(f"{self.url} is no fmedge server (HTTP {status} for {place})")
        return body[field]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The decoded answer to a POST; ApiError, in the server's words, for any but a 200."""
        connection, response = self._request("POST", path, body)
        try:
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{self.url}: the answer broke off: {error}") from error
        finally:
            connection.close()
        if response.status == 401:
            raise ApiError(f"{self.url} asks for an API key: set FMEDGE_API_KEY", status=401)
        if response.status != 200:
            raise _error_of(response.status, data, self.url)
        try:
            return json.loads(data)
        except ValueError as error:
            raise ApiError(f"{self.url}: the answer is not JSON: {error}") from error

    def stream(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """POST; the decoded events of the answer, until [DONE]. Closing the iterator cancels."""
        connection, response = self._request("POST", path, body)
        try:
            if response.status != 200:
                raise _error_of(response.status, response.read(MAX_LINE_BYTES), self.url)
            while line := response.readline(MAX_LINE_BYTES):
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if "error" in event:
                    raise _error_of(response.status, data, self.url)
                yield event
            raise ApiError(f"{self.url}: the answer broke off before its end")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(f"{self.url}: the answer broke off: {error}") from error
        finally:
            response.close()
            connection.close()

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        try:
            connection.connect()
            connection.sock.settimeout(self._read_timeout_s)
            payload = None if body is None else json.dumps(body).encode()
            connection.request(method, self._prefix + path, payload, headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ApiError(f"{self.url}: no server answers: {reason}") from error
        except BaseException:
            connection.close()
            raise

    def _connection(self) -> http.client.HTTPConnection:
        parts, timeout_s = self._parts, self._connect_timeout_s
        if parts.scheme == "unix":
            return _UnixConnection(parts.path, timeout_s)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname or "", self._port, timeout=timeout_s)
        return http.client.HTTPConnection(parts.hostname or "", self._port, timeout=timeout_s)


def _error_of(status: int, body: bytes, url: str) -> ApiError:
    """The server's own words, where it has any."""
    try:
        error = json.loads(body)["error"]
        message, code = str(error["message"]), str(error.get("code") or "")
    except (ValueError, LookupError, TypeError):
        message, code = f"{url}: HTTP {status} {http.client.responses.get(status, '')}".strip(), ""
    return ApiError(message, status=status, code=code)
