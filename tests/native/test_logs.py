"""The log ring: order, loss, several readers, several writers."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from fmedge._native.binding import ffi, lib
from fmedge._native.logs import LOGGER_NAME, LogCursor, LogForwarder
from fmedge._native.vocab import Vocab

DEBUG, INFO, WARN, ERROR, CONTINUED = 1, 2, 3, 4, 5


def texts(cursor: LogCursor) -> list[str]:
    return [text for _, text in cursor.read()]


def test_fragments_are_joined_to_lines_and_levels_kept() -> None:
    cursor = LogCursor()
    lib.fm_log_write(WARN, b"one ")
    lib.fm_log_write(CONTINUED, b"and ")
    lib.fm_log_write(CONTINUED, b"the same\ntwo\n")
    lib.fm_log_write(ERROR, b"three")
    lib.fm_log_write(INFO, b"four\n\n")
    assert list(cursor.read()) == [
        (logging.WARNING, "one and the same"),
        (logging.WARNING, "two"),
        (logging.ERROR, "three"),
        (logging.DEBUG, "four"),
    ]
    assert list(cursor.read()) == []


def test_readers_do_not_take_lines_from_each_other() -> None:
    first, second = LogCursor(), LogCursor()
    lib.fm_log_write(INFO, b"line\n")
    assert texts(first) == texts(second) == ["line"]
    assert texts(LogCursor()) == []


def test_a_slow_reader_learns_how_much_it_lost() -> None:
    cursor = LogCursor()
    for number in range(1100):
        lib.fm_log_write(INFO, f"line {number}\n".encode())
    lines = texts(cursor)
    assert lines[0] == "76 log lines of llama.cpp were lost"
    assert lines[1:] == [f"line {number}" for number in range(76, 1100)]


def test_a_long_line_is_cut() -> None:
    cursor = LogCursor()
    lib.fm_log_write(INFO, b"x" * 5000 + b"\n")
    assert texts(cursor) == ["x" * (lib.FM_LOG_LINE_BYTES - 1)]


def test_problems_are_the_last_warnings_and_errors() -> None:
    cursor = LogCursor()
    lib.fm_log_write(INFO, b"fine\n")
    for number in range(8):
        lib.fm_log_write(WARN if number % 2 else ERROR, f"bad {number}\n".encode())
    assert cursor.problems(limit=3) == "bad 5\nbad 6\nbad 7"


def test_the_forwarder_hands_llama_cpps_lines_to_logging(
    tiny_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger=LOGGER_NAME):
        forwarder = LogForwarder()
        Vocab.open(tiny_path).close()
        lib.fm_log_write(ERROR, b"an error\n")
        forwarder.close()
    records = [record for record in caplog.records if record.name == LOGGER_NAME]
    assert any("vocab" in record.message for record in records)
    assert [r.message for r in records if r.levelno == logging.ERROR] == ["an error"]


def test_closing_a_forwarder_does_not_wait_for_a_line() -> None:
    forwarder = LogForwarder()
    started = time.monotonic()
    forwarder.close()
    assert time.monotonic() - started < 0.9


def test_waiting_ends_with_a_line_or_the_time() -> None:
    cursor = LogCursor()
    assert not cursor.wait(1)
    writer = threading.Thread(target=lib.fm_log_write, args=(INFO, ffi.new("char[]", b"x\n")))
    writer.start()
    assert cursor.wait(10_000)
    writer.join()


def test_many_writers_lose_nothing_that_a_reader_keeps_up_with() -> None:
    cursor = LogCursor()
    num_threads, num_lines = 4, 200

    def write(thread: int) -> None:
        for number in range(num_lines):
            lib.fm_log_write(INFO, f"{thread} {number}\n".encode())

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(num_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = texts(cursor)
    for thread in range(num_threads):
        own = [line for line in lines if line.startswith(f"{thread} ")]
        assert own == [f"{thread} {number}" for number in range(num_lines)]


def test_what_an_aborted_step_logs_is_no_error() -> None:
    cursor = LogCursor()
    lib.fm_log_write(
        ERROR, b"graph_compute: ggml_backend_sched_graph_compute_async failed with error 1\n"
    )
    lib.fm_log_write(ERROR, b"process_ubatch: failed to compute graph, compute status: 1\n")
    lib.fm_log_write(
        ERROR, b"graph_compute: ggml_backend_sched_graph_compute_async failed with error -1\n"
    )
    levels = [level for level, _ in cursor.read()]
    assert levels == [logging.DEBUG, logging.DEBUG, logging.ERROR]
