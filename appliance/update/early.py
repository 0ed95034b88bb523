"""isthmus-update-begin: before control starts, the settings are kept for a way back, or brought back.

A program of its own since the whole box waits for it: it imports next to nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from appliance.update.boots import begin
from appliance.update.versions import running

EXIT_FAILED = 1


def main(argv: list[str] | None = None) -> int:
    """STATE: the box's folder. Exit status: 0, 1 the disk refused (the words are on standard error)."""
    words = sys.argv[1:] if argv is None else argv
    box = Path(words[0] if words else "/var/lib/isthmus")
    try:
        said = begin(box, box / "update", running())
    except OSError as error:
        print(f"isthmus-update: {error}", file=sys.stderr)
        return EXIT_FAILED
    if said:
        print(f"isthmus-update: {said}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
