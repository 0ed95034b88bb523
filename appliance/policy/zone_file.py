"""The lines of a zone of response policies (RPZ) in the text form of RFC 1035 section 5. Pure.

Of the policies only those on names asked for are read: CNAME to the root, the wildcard of it, "rpz-drop."
(the name is blocked), "rpz-passthru." (it is not), and addresses that lead nowhere (blocked).
"""

from __future__ import annotations

import re

_CLASSES_AND_TTLS = re.compile(rb"in|ch|hs|\d+[smhdw0-9]*")
_BLOCKED = frozenset({b".", b"*.", b"rpz-drop."})
_PASSED = b"rpz-passthru."
_NOWHERE = frozenset({b"0.0.0.0", b"::", b"127.0.0.1", b"::1"})
# Nearly every line of such a zone, understood at a third of the price.
_USUAL = re.compile(
    rb"((?:\*\.)?[a-z0-9_-]+\.[a-z0-9._-]*[a-z])(?<!\.rpz-ip)(?<!\.rpz-nsip)(?<!\.rpz-client-ip)"
    rb"(?<!\.rpz-nsdname)[ \t]+cname[ \t]+\."
)
# Triggers by something else than the name asked for; the label stands last, before the zone's name.
_OTHER_TRIGGERS = (b".rpz-ip", b".rpz-client-ip", b".rpz-nsip", b".rpz-nsdname")
# Unbalanced brackets would hide the rest of the file as one record.
MAX_RECORD_LINES = 64

# The name without the zone's, b"" where the line is about none; True: blocked, False: passed, None: neither.
Policy = tuple[bytes, bool | None]
_NOTHING: Policy = (b"", None)


class ZoneFile:
    """Takes one line after the other, in small letters."""

    def __init__(self) -> None:
        self._zone: bytes | None = None  # its name: what the SOA says, until then the first $ORIGIN
        self._has_soa = False
        self._ending = b""  # the zone's name behind its dot
        self._origin: bytes | None = None  # what relative names are relative to; None: whatever the zone is
        # What follows a relative name, up to the zone's; None: that takes the long way.
        self._suffix: bytes | None = b""
        self._owner: bytes | None = b""  # of the line before, without the zone's name; None: outside of it
        self._open = 0  # lines of a record in brackets
        self._apex_open = False

    def line(self, line: bytes) -> Policy | None:
        """What a line says; None where it is not understood. ``line`` keeps no white space at its ends."""
        usual = _USUAL.fullmatch(line)
        if usual is not None and self._suffix is not None and not self._open:
            self._owner = owner = usual[1] + self._suffix
            return owner, True
        text = line.partition(b";")[0].rstrip()
        if self._open:
            self._open += 1
            if b")" in text or self._open > MAX_RECORD_LINES:
                self._open = 0
            return _NOTHING
        if not text:
            return _NOTHING
        fields = text.split()
        if fields[0][:1] == b"$":
            if fields[0] == b"$origin" and len(fields) == 2:
                self._set_origin(fields[1])
            return _NOTHING if fields[0] in (b"$origin", b"$ttl", b"$include") else None
        return self._record(fields, b"(" in text and b")" not in text)

    def _record(self, fields: list[bytes], opens: bool) -> Policy | None:
        kind = _kind_at(fields, 1)
        if kind < 0:  # without an owner: the one of the line before
            kind = _kind_at(fields, 0)
            if kind < 0:
                return None
        elif fields[kind] == b"soa":
            self._apex(fields[0])
        else:
            self._owner = self._relative(fields[0])
        if opens:
            self._open = 1
        if kind + 1 >= len(fields):
            return None
        rtype, data = fields[kind], fields[kind + 1]
        if rtype == b"soa":
            return _NOTHING
        owner = self._owner
        if owner is None:
            return None
        if not owner or owner.endswith(_OTHER_TRIGGERS):
            return _NOTHING
        if rtype == b"cname":
            if data in _BLOCKED:
                return owner, True
            passed = data == _PASSED or data == owner + b"." or self._relative(data) == owner
            return owner, False if passed else None
        if rtype in (b"a", b"aaaa") and data in _NOWHERE:
            return owner, True
        return owner, None

    def _set_origin(self, name: bytes) -> None:
        self._origin = self._absolute(name)
        if self._zone is None and self._origin:
            self._zone = self._origin
        self._set_suffix()

    def _apex(self, owner: bytes) -> None:
        """The owner of the SOA is the zone; with nothing said before, names are relative to it."""
        known = self._origin is not None or owner.endswith(b".")
        if known and not self._has_soa:
            self._zone = self._absolute(owner)
            if self._origin is None:
                self._origin = self._zone
            self._set_suffix()
        self._has_soa = True
        self._owner = b""

    def _set_suffix(self) -> None:
        zone, origin = self._zone or b"", self._origin or b""
        self._ending = b"." + zone if zone else b""
        self._suffix = None
        if origin == zone:
            self._suffix = b""
        elif not zone or origin.endswith(b"." + zone):
            suffix = b"." + (origin[: -len(zone) - 1] if zone else origin)
            if not suffix.endswith(_OTHER_TRIGGERS):
                self._suffix = suffix

    def _absolute(self, name: bytes) -> bytes:
        """The whole name, without the dot at its end."""
        if name.endswith(b"."):
            return name[:-1]
        if name == b"@":
            return self._origin or b""
        return name + b"." + self._origin if self._origin else name

    def _relative(self, name: bytes) -> bytes | None:
        """A name without the zone's; b"" for the zone itself, None for what is outside of it."""
        if self._suffix == b"" and not name.endswith(b"."):
            return b"" if name == b"@" else name
        whole = name[:-1] if name.endswith(b".") else self._absolute(name)
        if whole.endswith(self._ending):
            return whole.removesuffix(self._ending)
        return b"" if whole == self._zone else None


_TYPES = frozenset(
    {b"soa", b"ns", b"cname", b"a", b"aaaa", b"txt", b"dname", b"mx", b"srv", b"ptr", b"https", b"svcb"}
)


def _kind_at(fields: list[bytes], start: int) -> int:
    """Where the type stands behind TTL and class, looked for from ``start``; -1 where it does not."""
    for at in range(start, min(len(fields), start + 3)):
        if fields[at] in _TYPES:
            return at
        if not _CLASSES_AND_TTLS.fullmatch(fields[at]):
            return -1
    return -1
