"""The set-up's two steps that ask for settings: the fewest that a new box needs."""

from __future__ import annotations

from appliance.config.rules import Policy
from appliance.config.schema import System
from webui.forms.layout import Field, Part, Root
from webui.layouts.network import NETWORK, SYSTEM
from webui.layouts.policy import DEFAULTS
from webui.views.sections import Page
from webui.words import later


def _of(part: Part, *names: str, about: str = "") -> Part:
    """Some of a part's fields, each as on its own page."""
    fields = {one.name: one for one in part.fields}
    return Part(
        part.title, tuple(fields[name] for name in names), root=part.root, about=about, tint=part.tint
    )


_PARTS = {part.title: part for part in NETWORK.parts}
NETWORK_STEP = Page(
    key="network", url="/setup/network", area="", title=later("Which port is which?"),
    about=later("The box’s guess is filled in; change what is wrong."),
    suggested=NETWORK.suggested,
    roots={name: NETWORK.roots[name] for name in ("lan", "wan")},
    parts=(
        _of(_PARTS["LAN"], "interface", "prefix", about=later("IPv6 only")),
        _of(_PARTS["WAN"], "interface", "vlan", "mode", "address", "gateway", about=later("IPv4")),
    ),
)  # fmt: skip
_DEFAULT, _LOG = DEFAULTS
POLICY_STEP = Page(
    key="policy", url="/setup/policy", area="", title=later("What may cross?"),
    about=later("Rules come later: by name, device, user and time. This is what holds without them."),
    suggested=SYSTEM.suggested,
    roots={"policy": Root(("policy",), Policy), "system": Root(("system",), System)},
    parts=(
        _of(_DEFAULT, "default"),
        _of(_LOG, "privacy", "retention_days"),
        Part(later("The box’s clock"), (
            Field("timezone", later("Time zone"), refers="@zones", placeholder="Europe/Vienna",
                  hint=later("Schedules, days and this console go by it.")),
        ), root="system"),
    ),
)  # fmt: skip
