"""The next program: started anew from disk in this very process, with seats and workers of the one before.

--check fails ── this one stays
        passes ── exec; what is handed over has stayed open, and is named in an environment variable
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from socket import socket
from typing import NamedTuple, NoReturn

from appliance.proxy.seat import Process, Seat

# Loading the new program and the configuration, on a box that is busy.
CHECK_TIMEOUT = 30.0
# Environment variable by which one program's descriptors reach the next.
_HEIRLOOMS = "ISTHMUS_HEIRLOOMS"


class Estate(NamedTuple):
    """What is handed over. ``socket``: where control asks."""

    socket: socket
    seats: list[Seat]
    draining: list[Process]


def inherited() -> Estate | None:
    """What the program before has left, once; None where there was none."""
    found = os.environ.pop(_HEIRLOOMS, None)
    if found is None:
        return None
    heirlooms = json.loads(found)
    os.set_inheritable(heirlooms["socket"], False)
    return Estate(
        socket(fileno=heirlooms["socket"]),
        [Seat.from_heirloom(seat) for seat in heirlooms["seats"]],
        [Process.from_heirloom(process) for process in heirlooms["draining"]],
    )


def next_can_serve() -> bool:
    """Whether the program on disk takes the configuration; where not, why is said on standard error."""
    command = [*sys.orig_argv, "--check"]
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or error
        print(f"the new program cannot serve; this one stays:\n{said}", file=sys.stderr)
        return False
    return True


def become_the_next(estate: Estate) -> NoReturn:
    """Start the program on disk, in this process; OSError where the kernel does not."""
    os.set_inheritable(estate.socket.fileno(), True)
    heirlooms = {
        "socket": estate.socket.fileno(),
        "seats": [seat.as_heirloom() for seat in estate.seats],
        "draining": [process.as_heirloom() for process in estate.draining],
    }
    sys.stderr.flush()
    program = sys.orig_argv[0]
    environment = {**os.environ, _HEIRLOOMS: json.dumps(heirlooms)}
    os.execvpe(program, sys.orig_argv, environment)  # noqa: S606 - the program that runs now
