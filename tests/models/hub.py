"""A server that plays the hub's API for one repository, on a thread of its own."""

from __future__ import annotations

import asyncio
import hashlib
import threading

from aiohttp import web

COMMIT = "c0ffee" * 6 + "c0ff"


class FakeHub:
    """files: name to content. Faults: `cut_after` closes a body early (once a request);
    `wrong_bytes` serves other bytes of the same length; `status` answers the API with it."""

    def __init__(self, repo: str, files: dict[str, bytes]) -> None:
        self.repo = repo
        self.files = files
        self.cut_after: int | None = None
        self.num_cuts = 1 << 30
        self.wrong_bytes = False
        self.status = 200
        self.error_code = ""
        self.ranges: list[str | None] = []
        self.tokens: list[str | None] = []
        self.unlisted: set[str] = set()
        self.claimed_size: int | None = None
        self.endpoint = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> FakeHub:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def etag(self, name: str) -> str:
        return hashlib.sha256(self.files[name]).hexdigest()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_get("/api/models/{org}/{name}/revision/{revision}", self._info)
        app.router.add_get("/api/models/{org}/{name}", self._info)
        app.router.add_get("/{org}/{name}/resolve/{revision}/{file:.+}", self._file)
        runner = web.AppRunner(app)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self.endpoint = f"http://127.0.0.1:{port}"
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def _refusal(self) -> web.Response:
        headers = {"X-Error-Code": self.error_code} if self.error_code else {}
        return web.json_response({"error": "refused"}, status=self.status, headers=headers)

    async def _info(self, request: web.Request) -> web.Response:
        self.tokens.append(request.headers.get("Authorization"))
        if self.status != 200:
            return self._refusal()
        if f"{request.match_info['org']}/{request.match_info['name']}" != self.repo:
            return web.json_response(
                {"error": "no"}, status=404, headers={"X-Error-Code": "RepoNotFound"}
            )
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": hashlib.sha1(data).hexdigest(),
                "lfs": {"sha256": self.etag(name), "size": len(data), "pointerSize": 100},
            }
            for name, data in self.files.items()
            if name not in self.unlisted
        ]
        return web.json_response({"id": self.repo, "sha": COMMIT, "siblings": siblings})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["file"]
        if name not in self.files:
            return web.Response(status=404, headers={"X-Error-Code": "EntryNotFound"})
        data = self.files[name]
        size = len(data) if self.claimed_size is None else self.claimed_size
        headers = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Etag": f'"{self.etag(name)}"',
            "X-Linked-Size": str(size),
            "ETag": f'"{self.etag(name)}"',
        }
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(size)})
        self.ranges.append(request.headers.get("Range"))
        if self.wrong_bytes:
            data = bytes(byte ^ 1 for byte in data)
        start = 0
        if wanted := request.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        response = web.StreamResponse(status=206 if start else 200, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        if self.cut_after is not None and self.num_cuts > 0:
            self.num_cuts -= 1
            await response.write(body[: self.cut_after])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response
