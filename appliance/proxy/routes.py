"""Where an address that a client asks for leads: refused, or out by which interface, from which source."""

from __future__ import annotations

from ipaddress import IPv4Address
from socket import AF_INET, AF_INET6, inet_ntop

from appliance.addressing import is_global_ipv4
from appliance.errors import Failure
from appliance.policy.forbidden import NOWHERE, Forbidden, Networks, forbidden_of, unmapped
from appliance.policy.sets import suffixes
from appliance.proxy.context import Context, Way
from appliance.proxy.eyeballs import Route
from appliance.proxy.lan import Lan

# IPv4 addresses whose way is remembered; the oldest half goes when it is full.
MAX_WAYS = 16_384
# Answers of one second that are remembered; more are for a scan, which asks for each thing once.
MAX_REMEMBERED = 4_096


def address_to_text(address: bytes) -> str:
    """A packed address of either family, to read."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


class Routes:
    """A configuration's answer for each address."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lan = Lan()
        self._forbidden = Forbidden(())
        self._by_domain: dict[str, tuple[Way, ...]] = {}
        self._ways: dict[tuple[str, bytes], Way | Failure] = {}  # by domain and IPv4 address
        self._answers: dict[tuple[bytes, str, int, bytes, bytes], Route | Failure] = {}  # of this second
        self._second = -1
        self.configure()

    def configure(self) -> None:
        """Take up what the context was configured with."""
        context = self._context
        config = context.config
        self._forbidden = forbidden_of(config)
        self._by_domain.clear()
        self._ways.clear()
        self._answers.clear()
        for way, entry in zip(context.ways, config.translation, strict=False):
            for domain in entry.domains:
                self._by_domain[domain] = (*self._by_domain.get(domain, ()), way)

    def route(self, address: bytes, host: str, port: int, client: bytes, own: bytes) -> Route | Failure:
        """Where a session with ``address`` (4 or 16 octets) goes, or why there is none.

        ``host``: the name that led to the address, which may be an island's; ``client`` and ``own``: the ends
        of the client's connection. An IPv4 address that the box itself would translate comes out plainly.
        The answer holds for the second: what it depends on, the box's and the LAN's addresses, is looked at
        no more often.
        """
        second = int(self._context.now)
        if second != self._second or len(self._answers) >= MAX_REMEMBERED:
            self._second = second
            self._answers.clear()
        key = address, host, port, client, own
        found = self._answers.get(key)
        if found is None:
            found = self._answers[key] = self._find(address, host, port, client, own)
        return found

    def _find(self, address: bytes, host: str, port: int, client: bytes, own: bytes) -> Route | Failure:
        why = self._forbidden.why(address, self._is_own, self._lan_at(own))
        way: Way | Failure
        address = unmapped(address)
        if len(address) == 16:
            target = self._context.destination(address)
            if target is None:
                return Failure.DENIED if why else Route(address, address_to_text(address))
            address = target.packed
            way = target.failure or target.way
        else:
            way = self._way_for(address, host)
        if why and not (why == "the box itself" and self._is_published(address, port)):
            return Failure.DENIED
        if isinstance(way, Failure):
            return way
        return Route(address, address_to_text(address), way.interface, way.source_for(client))

    def _lan_at(self, own: bytes) -> Networks:
        if len(unmapped(own)) == 4:
            return NOWHERE  # nobody's LAN: it has no IPv4
        return self._lan.beside(own, self._context.now)

    def _is_own(self, address: bytes) -> bool:
        return self._context.is_own(address_to_text(address))

    def _is_published(self, address: bytes, port: int) -> bool:
        """What the box publishes leads back to the LAN, for its own hosts too (hairpin)."""
        return ("tcp", port) in self._context.published and any(
            service.protocol == "tcp"
            and service.port == port
            and service.address in (None, IPv4Address(address))
            for service in self._context.config.published
        )

    # -- the ways of IPv4 ----------------------------------------------------------------------

    def _way_for(self, address: bytes, host: str) -> Way | Failure:
        domain = self._domain_of(host)
        key = domain, address
        known = self._ways.get(key)
        if known is None:
            if len(self._ways) >= MAX_WAYS:
                for old in list(self._ways)[: MAX_WAYS // 2]:
                    del self._ways[old]
            known = self._ways[key] = self._choose(domain, IPv4Address(address))
        return known

    def _choose(self, domain: str, address: IPv4Address) -> Way | Failure:
        """The way of the name's island, the most specific name first; then by the address alone."""
        groups = [self._by_domain[suffix] for suffix in suffixes(domain) if suffix in self._by_domain]
        for ways in (*groups, self._context.ways):
            fits = [way for way in ways if way.may_carry(address) is None]
            if fits:
                return next((way for way in fits if way.networks), fits[0])
        return Failure.NO_ROUTE if is_global_ipv4(address) else Failure.NON_GLOBAL

    def _domain_of(self, host: str) -> str:
        """The longest configured domain that a name is in; empty: none."""
        if not self._by_domain:
            return ""
        return next((suffix for suffix in suffixes(host) if suffix in self._by_domain), "")
