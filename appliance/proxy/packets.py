"""The worker's TUN: clients' packets, each to the part that it is for."""

from __future__ import annotations

from errno import EAGAIN

from appliance.protocol import packet as wire
from appliance.protocol.reassembly import Reassembly
from appliance.proxy.context import Context
from appliance.proxy.loop import Handler
from appliance.proxy.ping import Pings
from appliance.proxy.transparent import Transparent

# Packets read in one go, so that a flood starves no established session.
MAX_PACKETS = 64

_TCP, _ICMPV6, _FRAGMENT = wire.TCP, wire.ICMPV6, wire.FRAGMENT


class Packets(Handler):
    """Reads the TUN. ``broken`` once it is gone: without it the worker serves nobody new."""

    def __init__(self, context: Context, transparent: Transparent, pings: Pings) -> None:
        self._context = context
        self._transparent = transparent
        self._pings = pings
        self._reassembly = Reassembly()
        self.broken = False

    def on_event(self, events: int) -> None:
        """Packets wait."""
        context = self._context
        kernel = context.kernel
        for _ in range(MAX_PACKETS):
            packet = kernel.read_packet(context.tun)
            if isinstance(packet, int):
                self.broken = packet != -EAGAIN
                return
            if len(packet) < 48 or packet[0] >> 4 != 6:
                continue
            protocol = packet[6]
            if protocol == _FRAGMENT:
                whole = self._reassembly.add(packet)
                if whole is None or len(whole) < 48:
                    continue
                packet = whole
                protocol = packet[6]
            if protocol == _TCP:
                self._transparent.on_syn(packet)
            elif protocol == _ICMPV6:
                self._pings.on_icmpv6(packet)
            else:
                context.counters.malformed += 1
