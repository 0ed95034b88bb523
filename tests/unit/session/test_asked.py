"""Who asked for which name: against a dictionary, bounded, and never a half-written one."""

from __future__ import annotations

import mmap
import os
import threading
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.session import asked
from appliance.session.asked import FILE, SIZE, SLOTS, Asked, AskedNames, open_to_write

CLIENT = IPv6Address("fd00:1::2").packed
OTHER = IPv6Address("fd00:1::3").packed
ADDRESS = IPv6Address("64:ff9b::c01f:c450").packed


def number(value: int) -> bytes:
    return value.to_bytes(16, "big")


@pytest.fixture
def table(tmp_path: Path) -> Asked:
    return open_to_write(tmp_path / FILE)


def test_the_name_asked_last_counts_until_it_is_over(table: Asked) -> None:
    assert table.lookup(CLIENT, ADDRESS, 100) == ""
    table.store(CLIENT, ADDRESS, b"a.example", 100, 160)
    assert table.lookup(CLIENT, ADDRESS, 100) == table.lookup(CLIENT, ADDRESS, 160.0) == "a.example"
    assert table.lookup(CLIENT, ADDRESS, 161) == ""
    assert table.lookup(OTHER, ADDRESS, 100) == table.lookup(ADDRESS, CLIENT, 100) == ""
    table.store(CLIENT, ADDRESS, b"b.example", 101, 200)
    assert table.lookup(CLIENT, ADDRESS, 102) == "b.example"
    table.store(CLIENT, ADDRESS, b"a" * 253, 102, 200)
    assert table.lookup(CLIENT, ADDRESS, 102) == "a" * 253


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.text("abc.", max_size=9)), max_size=40))
def test_it_is_what_a_dictionary_says(stored: list[tuple[int, int, str]]) -> None:
    buffer = mmap.mmap(-1, SIZE)
    buffer[: asked._HEADER.size] = asked._HEADER.pack(asked._MAGIC, SLOTS)
    table = Asked(buffer)
    expected: dict[tuple[int, int], str] = {}
    for client, address, name in stored:
        table.store(number(client), number(address), name.encode(), 10, 20)
        expected[client, address] = name
    for key in ((client, address) for client in range(6) for address in range(6)):
        assert table.lookup(number(key[0]), number(key[1]), 15) == expected.get(key, "")


def test_a_flood_by_one_client_leaves_most_others_theirs(table: Asked) -> None:
    clients = [number(value) for value in range(1, 201)]
    for client in clients:
        table.store(client, ADDRESS, b"a.example", 1, 1_000)
    for value in range(SLOTS):
        table.store(CLIENT, number(value), b"flood.example", 2, 1_000)
    kept = sum(table.lookup(client, ADDRESS, 3) == "a.example" for client in clients)
    assert kept > 150
    held = sum(table.lookup(CLIENT, number(value), 3) != "" for value in range(SLOTS))
    assert SLOTS // 17 < held <= SLOTS // 16


def test_what_is_over_makes_room_first(table: Asked) -> None:
    table.store(CLIENT, ADDRESS, b"keep.example", 1, 100_000)
    for value in range(SLOTS // 4):
        table.store(CLIENT, number(value), b"short.example", 2 + value, 2 + value)
    assert table.lookup(CLIENT, ADDRESS, 500) == "keep.example"


def test_a_half_written_slot_is_no_name(tmp_path: Path) -> None:
    table = open_to_write(tmp_path / FILE)
    table.store(CLIENT, ADDRESS, b"a.example", 1, 100)
    data = bytearray((tmp_path / FILE).read_bytes())
    at = data.index(b"a.example")
    for offset in range(at - 8 - 32, at + 9):  # when, until, length; the key is another story
        if at - 32 <= offset < at:
            continue
        (tmp_path / FILE).write_bytes(data[:offset] + bytes([data[offset] ^ 1]) + data[offset + 1 :])
        assert table.lookup(CLIENT, ADDRESS, 1) == ""


def test_a_reader_beside_the_writer_sees_whole_names_only(tmp_path: Path) -> None:
    writer = open_to_write(tmp_path / FILE)
    reader = AskedNames(tmp_path / FILE)
    names = [bytes([letter]) * 200 for letter in b"abcdefgh"]
    done = threading.Event()

    def write() -> None:
        for turn in range(4_000):
            writer.store(CLIENT, ADDRESS, names[turn % len(names)], turn, 10_000)
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    while not done.is_set():
        seen.add(reader.lookup(CLIENT, ADDRESS, 0.0))
    thread.join()
    assert seen <= {"", *(name.decode() for name in names)}
    assert reader.lookup(CLIENT, ADDRESS, 0.0) == names[3_999 % len(names)].decode()


def test_readers_may_come_first_and_follow_a_new_file(tmp_path: Path) -> None:
    reader = AskedNames(tmp_path / FILE)
    assert reader.lookup(CLIENT, ADDRESS, 0.0) == ""
    open_to_write(tmp_path / FILE).store(CLIENT, ADDRESS, b"a.example", 0, 100)
    assert reader.lookup(CLIENT, ADDRESS, 0.5) == ""
    assert reader.lookup(CLIENT, ADDRESS, 1.0) == "a.example"
    (tmp_path / FILE).unlink()
    assert reader.lookup(CLIENT, ADDRESS, 2.0) == "a.example"
    open_to_write(tmp_path / FILE).store(CLIENT, ADDRESS, b"b.example", 0, 100)
    assert reader.lookup(CLIENT, ADDRESS, 3.0) == "b.example"


def test_one_writer_at_a_time_whose_names_outlive_it(tmp_path: Path) -> None:
    first = open_to_write(tmp_path / FILE)
    first.store(CLIENT, ADDRESS, b"a.example", 1, 100)
    with pytest.raises(BlockingIOError):
        open_to_write(tmp_path / FILE)
    copy = tmp_path / "copy"
    copy.write_bytes((tmp_path / FILE).read_bytes())
    assert open_to_write(copy).lookup(CLIENT, ADDRESS, 2) == "a.example"
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    "content",
    [b"", b"something else", bytes(SIZE), b"isth-as0" + bytes(SIZE - 8)],
    ids=["empty", "other", "zeros", "version"],
)
def test_another_versions_file_is_replaced_under_its_readers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / FILE
    path.write_bytes(content)
    before = os.stat(path).st_ino
    reader = AskedNames(path)
    assert reader.lookup(CLIENT, ADDRESS, 0.0) == ""
    with path.open("rb") as held:
        open_to_write(path).store(CLIENT, ADDRESS, b"a.example", 1, 100)
        assert held.read() == content and os.stat(path).st_ino != before
    assert reader.lookup(CLIENT, ADDRESS, 1.0) == "a.example"
