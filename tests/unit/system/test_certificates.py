"""The console's certificate."""

from __future__ import annotations

import datetime
from ipaddress import IPv6Address
from pathlib import Path

from cryptography import x509

from appliance.system.certificates import EARLIEST, ensure, make

ADDRESS = IPv6Address("fd00:1::1")


def test_made_once_with_the_boxes_address(tmp_path: Path) -> None:
    path = ensure(tmp_path / "tls", "isthmus", ADDRESS)
    first = path.read_bytes()
    names = x509.load_pem_x509_certificate(first).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.IPAddress) == [ADDRESS]
    assert names.value.get_values_for_type(x509.DNSName) == ["isthmus"]
    assert (tmp_path / "tls" / "console.key").stat().st_mode & 0o777 == 0o640
    assert ensure(tmp_path / "tls", "other", ADDRESS).read_bytes() == first


def test_a_clock_at_1970_gives_a_certificate_of_today() -> None:
    certificate, _key = make("isthmus", ADDRESS, datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC))
    loaded = x509.load_pem_x509_certificate(certificate)
    assert loaded.not_valid_before_utc <= EARLIEST < loaded.not_valid_after_utc
