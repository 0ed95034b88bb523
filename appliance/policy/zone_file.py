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
        self._origin = b""
        self._owner = b""
        self._open = 0  # lines of a record in brackets
        self._apex_open = False

    def line(self, line: bytes) -> Policy | None:
        """What a line says; None where it is not understood. ``line`` keeps no white space at its ends."""
        usual = _USUAL.fullmatch(line)
        if usual is not None and not self._open:
            self._owner = usual[1]
            return usual[1], True
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
                self._origin = fields[1].removesuffix(b".")
            return _NOTHING if fields[0] in (b"$origin", b"$ttl", b"$include") else None
        return self._record(fields, b"(" in text and b")" not in text)

    def _record(self, fields: list[bytes], opens: bool) -> Policy | None:
        kind = _kind_at(fields, 1)
        if kind < 0:  # without an owner: the one of the line before
            kind = _kind_at(fields, 0)
            if kind < 0:
                return None
        else:
            self._owner = fields[0]
        if opens:
            self._open = 1
        if kind + 1 >= len(fields):
            return None
        rtype, data = fields[kind], fields[kind + 1]
        if rtype == b"soa":
            if self._owner.endswith(b".") and not self._origin:
                self._origin = self._owner[:-1]
            return _NOTHING
        owner = self._relative(self._owner)
        if not owner or owner.endswith(_OTHER_TRIGGERS):
            return _NOTHING
        if rtype == b"cname":
            if data in _BLOCKED:
                return owner, True
            return owner, False if data == _PASSED or self._relative(data) == owner else None
        if rtype in (b"a", b"aaaa") and data in _NOWHERE:
            return owner, True
        return owner, None

    def _relative(self, owner: bytes) -> bytes:
        """A name without the zone's; b"" for the zone itself."""
        if owner == b"@":
            return b""
        if not owner.endswith(b"."):
            return owner
        whole = owner[:-1]
        if whole == self._origin:
            return b""
        return whole.removesuffix(b"." + self._origin) if self._origin else whole


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
