"""LANs beside the first one, what the hosts of a LAN are told, static routes."""

from __future__ import annotations

from appliance.config.sides import Route, Segment
from webui.forms.layout import NO_HINT, Field, Part
from webui.forms.plain import Plain
from webui.layouts.table import Column, Table
from webui.words import _, later

TOLD = (
    Field("router_preference", later("Preference as a router"), words={
        "low": later("Low"), "medium": later("Medium"), "high": later("High")},
        hint=later("Of several routers on a LAN, hosts take the one that says high.")),
    Field("search_domains", later("Search domains"), mono=True, row=later("domain"),
          placeholder="corp.example", hint=later("Hosts complete short names with them.")),
    Field("dns_servers", later("DNS servers"), mono=True, row=later("server"), placeholder="fd00:1::53",
          hint=later("None: the box. Others have to do DNS64 with its prefix, or names lead nowhere.")),
    Field("dhcpv6", later("Answer DHCPv6 questions"),
          hint=later("For hosts that learn DNS and time servers no other way. It gives no addresses.")),
    Field("ntp_servers", later("Time servers"), mono=True, row=later("server"), placeholder="fd00:1::123",
          hint=later("Told by DHCPv6 only.")),
    Field("managed", later("Send hosts to a DHCPv6 server for addresses"),
          hint=later("Another one, which you run: the box hands out none.")),
    Field("pref64_lifetime", later("Lifetime of the translation prefix"), unit="s", pair=True,
          hint=later("In eights. 0: hosts are not told of it.")),
    Field("mtu", later("Largest packet"), unit=later("octets"), pair=True, placeholder=later("of the port"),
          hint=later("Of what the box sends there.")),
)  # fmt: skip


def _where(segment: Plain) -> str:
    port, vlan = str(segment.get("interface", "auto")), segment.get("vlan")
    if vlan is None:
        return port
    if port == "auto":
        return _("VLAN %(vlan)s on the LAN’s port", vlan=vlan)
    return _("VLAN %(vlan)s on %(port)s", vlan=vlan, port=port)


SEGMENTS = Table(
    key="segments", path=("segment",), model=Segment, url="/network/lans", area="network",
    title=later("More LANs"), one=later("LAN"),
    about=later("Beside the first LAN: for guests, cameras, a laboratory. Their hosts reach IPv4 through the "
                "box, and not one another."),
    empty=later("There is one LAN. A further one has a port of its own, or a VLAN on the LAN’s port."),
    fresh={"name": "", "interface": "auto", "prefix": "generated"},
    columns=(
        Column(later("Where"), _where),
        Column(later("Prefix"), lambda e: str(e.get("prefix", "generated")), mono=True),
        Column(later("Console"), lambda e: _("yes") if e.get("console") else _("no")),
    ),
    parts=(
        Part(later("The LAN"), (
            Field("name", later("Name"), mono=True, placeholder="guests",
                  hint=later("Small letters, digits and hyphens.")),
            Field("interface", later("Port"), mono=True, pair=True, refers="@ports",
                  hint=later("“auto”, for a VLAN: the port of the first LAN.")),
            Field("vlan", later("VLAN"), pair=True, placeholder=later("none"),
                  hint=later("Its number on the switch. None: the whole port.")),
            Field("prefix", later("Prefix given to hosts"), mono=True, placeholder="2001:db8:64:21::/64",
                  hint=later("A /64; the box is ::1 of it. “generated”: a private one, made once and kept.")),
            Field("console", later("This console is there too"),
                  hint=later("Off: whoever is on that LAN cannot sign in to the box.")),
        )),
        Part(later("What hosts are told"), TOLD, advanced=True),
    ),
)  # fmt: skip

ROUTES = Table(
    key="routes", path=("route",), model=Route, url="/network/routes", area="network",
    title=later("Routes"), one=later("route"),
    about=later("Networks behind routers: IPv4 on the side of the WAN, IPv6 on the side of the LANs."),
    empty=later("The box knows its own networks, and sends all other IPv4 to the WAN’s gateway."),
    fresh={"name": ""},
    columns=(
        Column(later("Network"), lambda e: str(e.get("to", "")), mono=True),
        Column(later("Router"), lambda e: str(e.get("via", "")), mono=True),
        Column(later("Metric"), lambda e: str(e.get("metric", 1_024))),
    ),
    parts=(Part(later("The route"), (
        Field("name", later("Name"), mono=True, placeholder="branch"),
        Field("to", later("Network"), mono=True, placeholder="10.0.0.0/8", hint=NO_HINT),
        Field("via", later("Router"), mono=True, placeholder="192.0.2.254",
              hint=later("On the WAN’s network, or on a LAN.")),
        Field("interface", later("Port"), mono=True, pair=True, refers="@ports",
              placeholder=later("as its address says"),
              hint=later("For a link-local router, or an island’s.")),
        Field("metric", later("Metric"), pair=True,
              hint=later("Of several routes to one network the least is taken.")),
    )),),
)  # fmt: skip
