"""Lists of names as others publish them: octets in, names out. Pure; the text is a stranger's.

Formats: *hosts* (an address that leads nowhere, then names), *domains* (a name a line), *adblock* (of its
rules those about whole names), *rpz* (a DNS zone of response policies). A name is reported with what it
covers: the name itself, the names below it, or both, and whether it is an exception.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from appliance.policy.name_table import BELOW, EXACT, EXEMPT_BELOW, EXEMPT_EXACT
from appliance.policy.zone_file import ZoneFile

# Octets. No line about a name is as long; those of a script in a web page are, and not worth their memory.
MAX_LINE = 4_096
# Empty ones too: 64 MiB of line feeds would cost a minute. The longest public lists have 5 million.
MAX_LINES = 16_000_000
# Lines before one that tells the format: comments are fewer, and nothing else should be kept for it.
MAX_PREAMBLE = 1_000
# Signs of a line that was not understood, for the one who is to look at it.
_EXCERPT = 60
_WEB_PAGE = "is a web page, not a list"

WHOLE = EXACT | BELOW
_EXEMPT_WHOLE = EXEMPT_EXACT | EXEMPT_BELOW
Add = Callable[[bytes, int], None]

_NAME = re.compile(rb"(?=.{1,253}\Z)(?:[a-z0-9_-]{1,63}\.)*(?!(?:\d+|0x[0-9a-f]*)\Z)[a-z0-9_-]{1,63}")
# To these hosts files send what is to lead nowhere. An entry with any other gives a host its address.
_SINK = re.compile(rb"0|0\.0\.0\.0|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|::|::1|0:0:0:0:0:0:0:[01]")
_ADDRESS = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:%\w+)?")
# Nearly every line of such a file, understood at a third of the price.
_USUAL_HOST = re.compile(rb"(?:0\.0\.0\.0|127\.0\.0\.1)[ \t]+([a-z0-9_-]+\.[a-z0-9._-]*[a-z])")
# What hosts files begin with; blocking these would be a nuisance.
_LOCAL = frozenset(
    b"localhost localhost.localdomain local broadcasthost ip6-localhost ip6-loopback ip6-localnet "
    b"ip6-mcastprefix ip6-allnodes ip6-allrouters ip6-allhosts".split()
)
_RULE = re.compile(rb"(@@)?(\|\|?)(\*\.)?([^\^/*|$:]+)\^\|?(?:\$(.*))?")
# Options that leave a rule what it is. Any other narrows it to what is not seen here (scripts, say).
_HARMLESS = frozenset({b"important", b"all"})


class ListError(Exception):
    """The whole is no list of names, or more than is taken; in words that follow “the list”."""


@dataclass(slots=True)
class Counts:
    """Lines by what they were; ``names`` and ``exceptions`` count names."""

    lines: int = 0
    names: int = 0
    exceptions: int = 0
    skipped: int = 0  # understood, but about no name: cosmetic rules, rewrites
    bad: int = 0  # not understood
    first_bad: str = ""  # one of these, with its line


class ListParser:
    """Feed it the list in pieces, then ``finish``. ``add`` gets each name in small letters and its flags.

    ``form`` as of ``NameList.format``; ``max_octets``: more is a ListError.
    """

    def __init__(self, form: str, max_octets: int, add: Add) -> None:
        self.form = form
        self.counts = Counts()
        self.octets = 0
        self._max_octets = max_octets
        self._add = add
        self._rest = b""
        self._overlong = False
        self._begun = False  # whether a line that is not empty was seen
        self._waiting: list[bytes] = []  # lines before the format is known
        self._zone = ZoneFile()
        self._readers: dict[str, Callable[[bytes], bool]] = {
            "hosts": self._hosts,
            "domains": self._domains,
            "adblock": self._adblock,
            "rpz": self._rpz,
        }
        self._reader = self._readers.get(form)

    @property
    def exceptions_win(self) -> bool:
        """Whether an exception beats every other entry; otherwise the longer of the two names does."""
        return self.form == "adblock"

    def feed(self, data: bytes) -> None:
        """The next octets; ListError where it is enough."""
        self.octets += len(data)
        if self.octets > self._max_octets:
            raise ListError(f"is larger than {self._max_octets >> 20} MiB (max_mib)")
        lines = data.split(b"\n")
        if self._overlong:
            if len(lines) == 1:
                return
            lines[0] = b""
            self._overlong = False
        else:
            lines[0] = self._rest + lines[0]
        self._rest = lines.pop()
        self._take(lines)
        if len(self._rest) > MAX_LINE:
            if not self._begun:
                self._begin([self._rest])
            self._not_understood(self._rest, self.counts.lines + 1)
            self._rest = b""
            self._overlong = True

    def finish(self, may_be_empty: bool = False) -> Counts:
        """The end. ListError where this was no list: without a name, or mostly something else."""
        rest, self._rest = self._rest, b""
        self._take([rest])
        counts = self.counts
        if not counts.names:
            if may_be_empty and not counts.bad:
                return counts
            raise ListError("has no name in it" + self._for_example())
        if counts.bad > counts.names:
            raise ListError(f"is mostly lines that are not understood{self._for_example()}")
        return counts

    def _for_example(self) -> str:
        return f"; {self.counts.first_bad}" if self.counts.first_bad else ""

    def _take(self, lines: list[bytes]) -> None:
        counts = self.counts
        if counts.lines + len(lines) > MAX_LINES:
            raise ListError(f"has more than {MAX_LINES:,} lines")
        if not self._begun:
            self._begin(lines)
        if self._reader is None:
            lines = self._tell(lines)
        for line in lines:
            counts.lines += 1
            line = line.strip()
            if not line:
                continue
            if len(line) > MAX_LINE or not self._reader(line):  # type: ignore[misc]
                self._not_understood(line, counts.lines)

    def _begin(self, lines: list[bytes]) -> None:
        """ListError where the first line shows a web page: a format set by hand would find names in one."""
        first = next(filter(None, map(bytes.strip, lines)), b"")
        self._begun = first != b""
        if first[:1] == b"<":
            raise ListError(_WEB_PAGE)

    def _tell(self, lines: list[bytes]) -> list[bytes]:
        """The lines so far, once the format is told by one of them; none before."""
        before = len(self._waiting)
        self._waiting += [line[: MAX_LINE + 1] for line in lines[: MAX_PREAMBLE + 1]]
        for line in self._waiting[before:]:
            form = format_of(line.strip())
            if form:
                self.form = form
                self._reader = self._readers[form]
                waiting, self._waiting = self._waiting, []
                return waiting + lines[len(waiting) - before :]
        if len(self._waiting) > MAX_PREAMBLE:
            raise ListError(f"does not show its format in {MAX_PREAMBLE} lines: set it (format)")
        return []

    def _not_understood(self, line: bytes, number: int) -> None:
        counts = self.counts
        counts.bad += 1
        if not counts.first_bad:
            text = line[:_EXCERPT].decode("utf-8", "replace")
            shown = "".join(sign if sign.isprintable() else "?" for sign in text)
            counts.first_bad = f"line {number:,} is “{shown}”"

    # -- the formats: each says whether it understood the line ---------------------------------------

    def _hosts(self, line: bytes) -> bool:
        usual = _USUAL_HOST.fullmatch(line)
        if usual is not None and usual[1] not in _LOCAL:
            return self._name(usual[1], EXACT)
        fields = line.partition(b"#")[0].lower().split()
        if not fields:
            return True
        if not _SINK.fullmatch(fields[0]):
            self.counts.skipped += 1
            return _ADDRESS.fullmatch(fields[0]) is not None
        names = [name for name in fields[1:] if name not in _LOCAL and not _ADDRESS.fullmatch(name)]
        if not names:
            self.counts.skipped += 1
            return len(fields) > 1
        understood = [self._name(name, EXACT) for name in names]
        return all(understood)

    def _domains(self, line: bytes) -> bool:
        name = line.partition(b"#")[0].strip().lower()
        if not name:
            return True
        flags = WHOLE
        if name.startswith(b"*."):
            name, flags = name[2:], BELOW
        return self._name(name.removeprefix(b"."), flags)

    def _name(self, name: bytes, flags: int) -> bool:
        """Report one, which has a dot: single words are text that was taken for a name."""
        told = ascii_name(name)
        if told is None or b"." not in told:
            return False
        self.counts.names += 1
        self._add(told, flags)
        return True

    def _adblock(self, line: bytes) -> bool:
        if line[:1] in (b"!", b"[") or (line[:1] == b"#" and line[1:2] in (b"", b" ", b"#", b"-", b"=")):
            return True
        rule = _RULE.fullmatch(line.lower())
        if rule is None:
            fields = line.split()
            if len(fields) > 1 and _SINK.fullmatch(fields[0].lower()):
                return self._hosts(line)
            if _NAME.fullmatch(line.lower()) and b"." in line:
                return self._name(line.lower(), EXACT)
            self.counts.skipped += 1  # a path, a pattern, a cosmetic rule
            return True
        exempt, anchor, below, name, options = rule.groups()
        told = ascii_name(name)
        if told is None or (options is not None and not _HARMLESS.issuperset(options.split(b","))):
            self.counts.skipped += 1
            return True
        flags = BELOW if below else WHOLE if anchor == b"||" else EXACT
        if exempt:
            self.counts.exceptions += 1
            flags = flags * (EXEMPT_EXACT // EXACT)
        else:
            self.counts.names += 1
        self._add(told, flags)
        return True

    def _rpz(self, line: bytes) -> bool:
        found = self._zone.line(line.lower())
        if found is None:
            return False
        owner, blocks = found
        flags = EXACT
        if owner.startswith(b"*."):
            owner, flags = owner[2:], BELOW
        told = ascii_name(owner) if owner and blocks is not None else None
        if told is None:
            self.counts.skipped += 1
        elif blocks:
            self.counts.names += 1
            self._add(told, flags)
        else:
            self.counts.exceptions += 1
            self._add(told, flags * (EXEMPT_EXACT // EXACT))
        return True


_ZONE_LINE = re.compile(
    rb"\$(origin|ttl)\b|(\S+\s+)?(\d\w*\s+)?(in\s+)?(\d\w*\s+)?(soa|cname|ns)\s", re.IGNORECASE
)


def format_of(line: bytes) -> str:
    """What format a stripped line shows, or ""; ListError where it shows that this is no list."""
    if not line or line[:1] == b"#":
        return ""
    if line[:1] == b"<":
        raise ListError(_WEB_PAGE)
    if line[:1] == b"!" or line[:2] in (b"||", b"@@") or line[:8].lower() == b"[adblock":
        return "adblock"
    if line[:1] in (b";", b"@") or _ZONE_LINE.match(line):
        return "rpz"
    fields = line.partition(b"#")[0].lower().split()
    if len(fields) > 1:
        return "hosts" if _ADDRESS.fullmatch(fields[0]) or fields[0] == b"0" else ""
    name = ascii_name(fields[0].removeprefix(b"*.").removeprefix(b".")) if fields else None
    return "domains" if name is not None and b"." in name else ""


def ascii_name(name: bytes) -> bytes | None:
    """A name in small letters as the DNS has it, without the final dot; None where it is none.

    Not in ASCII, it is UTF-8 and becomes A-labels (RFC 3490: the standard library has no newer form; the two
    differ in a few letters). Names whose last label is a number are addresses, or tricks with them.
    """
    if name[-1:] == b".":
        name = name[:-1]
    if not name.isascii():
        if len(name) > 253 * 4:
            return None
        try:
            name = name.decode().lower().encode("idna")
        except UnicodeError:
            return None
    return name if _NAME.fullmatch(name) else None
