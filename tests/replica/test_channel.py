"""Frames survive any cut of the stream; what is no frame, or never read, ends the channel."""

from __future__ import annotations

import asyncio
import socket
import threading

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmedge.errors import ReplicaLostError
from fmedge.replica import channel as channel_module
from fmedge.replica import worker_channel as worker_channel_module
from fmedge.replica.channel import FrontChannel
from fmedge.replica.frames import FrameError, FrameReader, encode_frame, front_decoder
from fmedge.replica.protocol import (
    MAX_FRAME_BYTES,
    Cancel,
    Heartbeat,
    Log,
    SequenceTokens,
    Shutdown,
    Step,
    Submit,
)
from fmedge.replica.worker_channel import WorkerChannel

ENCODER = msgspec.msgpack.Encoder()
DEADLINE_S = 20.0

messages_strategy = st.one_of(
    st.builds(Heartbeat, st.integers(0, 10**9), st.floats(0, 1e6), st.integers(0, 10**12)),
    st.builds(Log, st.integers(0, 50), st.text(max_size=300)),
    st.builds(
        Step,
        sequences=st.lists(
            st.builds(
                SequenceTokens,
                st.integers(0, 2**40),
                st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple),
                st.sampled_from([None, "stop", "length"]),
            ),
            max_size=4,
        ).map(tuple),
    ),
)


@given(frames=st.lists(st.lists(messages_strategy, max_size=4), max_size=5), data=st.data())
def test_any_cut_of_the_stream_gives_the_same_messages(frames, data):
    stream = b"".join(encode_frame(ENCODER, frame) for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = FrameReader(front_decoder())
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == [message for frame in frames for message in frame]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ((MAX_FRAME_BYTES + 1).to_bytes(4, "little"), "bytes"),
        (b"\x01\x00\x00\x00\xc1", "malformed"),
        (encode_frame(ENCODER, [Shutdown()]), "malformed"),
    ],
)
def test_what_is_no_frame_is_refused(data, what):
    with pytest.raises(FrameError, match=what):
        FrameReader(front_decoder()).feed(data)


class FrontEnd:
    """A FrontChannel on one end of a socketpair, with its events."""

    def __init__(self) -> None:
        self.messages: list = []
        self.received = asyncio.Event()
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.channel = FrontChannel(self._on_messages, self.closed.set_result)

    def _on_messages(self, messages) -> None:
        self.messages += messages
        self.received.set()

    async def until(self, num_messages: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(self.messages) < num_messages:
                await self.received.wait()
                self.received.clear()


async def connect() -> tuple[FrontEnd, socket.socket]:
    ours, theirs = socket.socketpair()
    front = FrontEnd()
    ours.setblocking(False)
    await asyncio.get_running_loop().create_unix_connection(lambda: front.channel, sock=ours)
    return front, theirs


async def test_both_ends_exchange_messages_and_the_worker_sees_the_front_go():
    front, theirs = await connect()
    worker = WorkerChannel(theirs)
    inbox, heard, ended = [], threading.Event(), threading.Event()

    def on_messages(messages):
        inbox.extend(messages)
        heard.set()

    def serve():
        worker.serve(on_messages, lambda: worker.send(Heartbeat(1, 0.0, 2)), 3600.0)
        ended.set()

    threading.Thread(target=serve, daemon=True).start()
    submit = Submit(request_id=7, tokens=b"\x01\x00\x00\x00", num_prompt_tokens=1, max_tokens=5)
    front.channel.send(submit, Cancel((1, 2)))
    assert await asyncio.to_thread(heard.wait, DEADLINE_S)
    assert inbox == [submit, Cancel((1, 2))]
    worker.send(Log(20, "x" * 1_000_000))  # larger than the socket's buffer
    worker.send(Log(20, "y"))
    await front.until(3)
    assert [type(message) for message in front.messages] == [Heartbeat, Log, Log]
    assert front.messages[1].line == "x" * 1_000_000
    front.channel.abort("enough")
    assert await asyncio.wait_for(front.closed, DEADLINE_S) == "enough"
    assert await asyncio.to_thread(ended.wait, DEADLINE_S)
    worker.send(Log(20, "into the void"))
    theirs.close()


async def test_many_threads_send_whole_frames():
    front, theirs = await connect()
    worker = WorkerChannel(theirs)
    server = threading.Thread(target=worker.serve, args=(lambda m: None, lambda: None, 3600.0))
    server.start()

    def send(thread: int) -> None:
        for number in range(200):
            worker.send(Log(thread, f"{number} " + "z" * 5000))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    await front.until(800)
    for thread in threads:
        await asyncio.to_thread(thread.join, DEADLINE_S)
    for number in range(4):
        numbers = [int(m.line.split()[0]) for m in front.messages if m.level == number]
        assert numbers == list(range(200))
    front.channel.abort("done")
    await asyncio.to_thread(server.join, DEADLINE_S)
    theirs.close()


async def test_a_worker_that_does_not_read_is_lost(monkeypatch):
    monkeypatch.setattr(channel_module, "MAX_OUTGOING_BYTES", 100_000)
    front, theirs = await connect()
    big = Submit(request_id=1, tokens=bytes(50_000), num_prompt_tokens=1, max_tokens=1)

    def fill():
        for _ in range(100):
            front.channel.send(big)

    with pytest.raises(ReplicaLostError):
        fill()
    assert "reading" in await asyncio.wait_for(front.closed, DEADLINE_S)
    with pytest.raises(ReplicaLostError):
        front.channel.send(big)
    theirs.close()


async def test_a_worker_waits_only_so_long_for_a_front_that_does_not_read(monkeypatch):
    monkeypatch.setattr(worker_channel_module, "MAX_OUTGOING_BYTES", 100_000)
    ours, theirs = socket.socketpair()
    worker = WorkerChannel(theirs)

    def fill():
        for _ in range(100):
            worker.send(Log(0, "x" * 50_000), timeout_s=0.01)

    with pytest.raises(TimeoutError):
        await asyncio.to_thread(fill)
    assert not worker.flush(0.01)
    ours.close()
    theirs.close()


async def test_garbage_closes_the_front_end():
    front, theirs = await connect()
    theirs.sendall(b"\x01\x00\x00\x00\xc1")
    assert "malformed" in await asyncio.wait_for(front.closed, DEADLINE_S)
    theirs.close()
