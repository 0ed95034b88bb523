"""isthmus-lan: what happens on the LANs' links beside the traffic.

It answers DHCPv6 questions (*question*, *answers*: protocol/dhcpv6.py), advertises the MTU of a LAN that has
one of its own, and listens for *strangers*: routers that advertise themselves on a LAN and are not the box.
It reads ``lans.json``, which control writes.
"""
