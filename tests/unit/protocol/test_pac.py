"""The PAC file's text. What browsers make of it is tried with real ones elsewhere."""

from __future__ import annotations

import json
from ipaddress import IPv6Address, IPv6Network, ip_address

from appliance.protocol.pac import Listener, Speaks, pac_file


def variables(text: str) -> dict[str, object]:
    lines = [line for line in text.splitlines() if line.startswith("var ")]
    return {line.split()[1]: json.loads(line.partition(" = ")[2].rstrip(";")) for line in lines}


def test_listeners_in_their_order() -> None:
    text = pac_file(
        [
            Listener(Speaks.HTTPS, "box.home.arpa", 3129),
            Listener(Speaks.HTTP, IPv6Address("fd00::1"), 3128),
            Listener(Speaks.SOCKS5, ip_address("192.0.2.1"), 1080),
        ],
        direct_names=[".Home.ARPA", 'a"b\n</script>'],
        direct_networks=[IPv6Network("fd00::/64")],
    )
    assert variables(text) == {
        "directNames": ["home.arpa", 'a"b\n</script>'],
        "directNetworks": ["fd00::/64"],
        "proxy": "HTTPS box.home.arpa:3129; PROXY [fd00::1]:3128; SOCKS5 192.0.2.1:1080",
    }
    assert text.isascii() and "function FindProxyForURL(url, host) {" in text
    assert text.count("{") == text.count("}") and text.count("(") == text.count(")")


def test_without_a_proxy_all_is_direct() -> None:
    assert variables(pac_file([]))["proxy"] == "DIRECT"
    text = pac_file([Listener(Speaks.HTTP, "a", 1)], else_direct=True)
    assert variables(text)["proxy"] == "PROXY a:1; DIRECT"
