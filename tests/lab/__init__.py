"""The lab: the box in QEMU between two network namespaces that the lab makes itself.

    client namespace (IPv6 only)            the box                 WAN namespace (IPv4 only)
    ┌──────────────────────────┐     ┌───────────────────┐     ┌────────────────────────────────┐
    │ lan0 (a tap): address,   │ TAP │ LAN port  WAN port│ TAP │ wan0 203.0.113.1/24: DHCP, DNS │
    │ route, DNS, PREF64 by RA ├─────┤ 0x11          0x10├─────┤ lo 192.31.196.10: HTTP, HTTPS, │
    │ curl, dig, ping, chronyd │     │                   │     │    NTP                         │
    └──────────────────────────┘     └───────────────────┘     └────────────────────────────────┘

Words: a *namespace* is one of the two hosts; the *box* is the image in QEMU; a *row* is one thing
a client does, with how it ended. Nothing touches the host's own network: QEMU is handed the taps
as open descriptors, and names carry the lab's process ID, so two labs never meet.

The server has a global IPv4 address, since the well-known prefix 64:ff9b::/96 must not carry a
private one (RFC 6052 section 3.1): one of the AS112 block, which is no host's in particular.
"""
