"""Where a published service leads, by the name that a client says on a shared port."""

from __future__ import annotations

from appliance.config.schema import Published


class TargetsByName:
    """The names of a service as they are looked up."""

    def __init__(self, service: Published) -> None:
        self._others = service.targets
        self._exact: dict[str, tuple[str, ...]] = {}
        self._below: dict[str, tuple[str, ...]] = {}
        for named in service.names:
            for host in named.hosts:
                table = self._below if host.startswith("*.") else self._exact
                table.setdefault(host.removeprefix("*."), named.targets)

    def find(self, name: str) -> tuple[str, ...]:
        """The endpoints for a name ("" for none); of several patterns that fit the longest counts."""
        found = self._exact.get(name)
        while found is None and name:
            _label, _dot, name = name.partition(".")
            found = self._below.get(name)
        return self._others if found is None else found
