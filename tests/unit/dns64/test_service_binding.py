"""HTTPS records: hints as addresses, the keys of ECH out, nothing else changed."""

from __future__ import annotations

import dns.message
import dns.rdata
import dns.rdtypes.svcbbase
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dns64.service_binding import hints, without_ech
from tests.unit.dns64.test_resolver import bench

ECH = 'ech="AEX+DQBBpQAgACBS"'


def data(text: str) -> bytes:
    return dns.rdata.from_text("IN", "HTTPS", text).to_wire() or b""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f'1 . alpn="h2,h3" {ECH} ipv6hint="2001:db8::1"', '1 . alpn="h2,h3" ipv6hint="2001:db8::1"'),
        (f"1 svc.example. {ECH}", "1 svc.example."),
        ('1 . alpn="h2"', '1 . alpn="h2"'),
        ("0 other.example.", "0 other.example."),
    ],
)
def test_ech_is_taken_out(text: str, left: str) -> None:
    assert without_ech(data(text)) == data(left)


def test_a_record_that_is_nothing_without_ech_goes() -> None:
    assert without_ech(data(f"1 . mandatory=ech {ECH}")) is None


def test_hints() -> None:
    found = hints(data('1 a.example. ipv4hint="192.0.2.1" ipv6hint="2001:db8::1,2001:db8::2"'))
    assert [one.hex() for one in found] == [
        "00000000000000000000ffffc0000201",
        "20010db8000000000000000000000001",
        "20010db8000000000000000000000002",
    ]


@given(st.binary(max_size=60))
def test_any_data(noise: bytes) -> None:
    for octets in (noise, b"\0\1\0" + noise):
        assert all(len(one) == 16 for one in hints(octets))
        left = without_ech(octets)
        assert left is None or (len(left) <= len(octets) and without_ech(left) == left)


@pytest.mark.parametrize("policy", ["allow", "block"])
def test_the_setting(policy: str) -> None:
    row = f'a.example 300 IN HTTPS 1 . alpn="h2" {ECH}'
    box = bench(f'[policy]\nech = "{policy}"\n', a_example__HTTPS=row)
    (answer,) = box.get("a.example", "HTTPS").answer
    (record,) = answer
    assert isinstance(record, dns.rdtypes.svcbbase.SVCBBase)
    keys = {int(key) for key in record.params}
    assert keys == ({1} if policy == "block" else {1, 5}) and answer.ttl == 300


def test_other_answers_stay_as_they_are() -> None:
    box = bench('[policy]\nech = "block"\n', a_example__TXT='a.example 300 IN TXT "ech=x"')
    assert box.get("a.example", "TXT").answer[0].to_text() == 'a.example. 300 IN TXT "ech=x"'
    box.script["a.example HTTPS"] = None
    assert box.get("a.example", "HTTPS").rcode() == 2
