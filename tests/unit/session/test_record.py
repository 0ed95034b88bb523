"""A session's record: what it reads from its endpoints, and addresses as text."""

from __future__ import annotations

import pytest

from appliance.session.record import ENDPOINTS, MAPPED, MAX_TEXTS, Session, address_text

CLIENT = bytes.fromhex("fd000001000000000000000000000002")
SERVER = bytes.fromhex("0064ff9b0000000000000000c01fc450")


def test_endpoints_are_read_as_a_packet_has_them() -> None:
    found = Session(1, "tcp", CLIENT + SERVER + b"\xff\xfe\x01\xbb", "192.31.196.80", 0.0)
    assert (found.client, found.server) == (CLIENT, SERVER)
    assert (found.client_port, found.server_port, found.origin_port) == (65_534, 443, 443)


@pytest.mark.parametrize("size", [0, 16, ENDPOINTS - 1, ENDPOINTS + 1])
def test_what_is_no_endpoints_is_refused(size: int) -> None:
    """They are read without a look at their length."""
    with pytest.raises(ValueError, match="36 octets"):
        Session(1, "tcp", bytes(size), "192.0.2.1", 0.0)


def test_texts_are_right_however_many_are_asked_for() -> None:
    addresses = [SERVER[:12] + number.to_bytes(4, "big") for number in range(MAX_TEXTS + 10)]
    for number, address in enumerate(addresses):
        assert address_text(address).startswith("64:ff9b::") and address_text(CLIENT) == "fd00:1::2"
        if not number % 1_000:
            assert address_text(MAPPED + number.to_bytes(4, "big")) == f"0.0.{number >> 8}.{number & 255}"
