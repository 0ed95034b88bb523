"""make run: boot the box in the lab, carry real requests through it, show how they ended, stay.

python -m tests.lab.run [--once]; the exit status is 0 only if every row passed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from types import FrameType

from tests.lab.box import BUILD, BoxError
from tests.lab.forward import Forwarder
from tests.lab.lab import Lab
from tests.lab.rows import Rows, table

# For `make client`: which namespace is the client's, and whose lab it is.
STATE = BUILD / "lab.json"
CONSOLE_PORT = 443
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def say(text: str) -> None:
    """A progress line, with the time of day."""
    print(f"  {time.strftime('%H:%M:%S')}  {text}", flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    """Ctrl-C, a closed terminal, kill: leave by the ordinary way, which a second one does not disturb."""
    for each in _ENDINGS:
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _lock() -> int:
    """A lock that is this process's as long as it lives: `make client` can serve one box only."""
    folder = os.open(BUILD, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        raise BoxError(
            "a box is running already from this folder: use it (make client), or end it with Ctrl-C "
            "in its terminal; make run ONCE=1 can run beside it"
        ) from None
    return folder


def _stay(lab: Lab, box: str) -> None:
    """Leave the box running until Ctrl-C."""
    forwarder = Forwarder(lab.client, box, CONSOLE_PORT)
    STATE.write_text(json.dumps({"pid": os.getpid(), "client": lab.client.name}))
    reach = "and what this machine reaches over IPv4" if lab.has_internet else "no IPv4 internet here"
    try:
        print(f"\nThe box is running. Its console:  https://127.0.0.1:{forwarder.port}/")
        print("A shell inside the IPv6-only client (from another terminal):  make client")
        print(f"From there: curl http://ipv4.example/ ({reach})")
        print(f"The box's serial console: {lab.box.serial}")
        print("Ctrl-C ends the box and removes everything again.", flush=True)
        while True:
            signal.pause()
    finally:
        STATE.unlink(missing_ok=True)
        forwarder.close()


def _show(lab: Lab) -> tuple[int, str]:
    """Wait for the box, carry the requests, print the table: the exit status and the box's address."""
    started = time.monotonic()
    lab.box.wait()
    view = lab.await_client()
    say(f"the client has {view.addresses[0]} by router advertisement")
    lab.await_resolver(view)
    say("DNS64 answers; carrying requests")
    rows = Rows(lab, view).all()
    passed = all(row.passed for row in rows)
    verdict = "every row passed" if passed else "NOT every row passed: see build/lab-logs/"
    print(f"\n{table(rows)}\n\n{verdict} ({time.monotonic() - started:.0f} s)", flush=True)
    return (0 if passed else 1), str(view.box)


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--once", action="store_true", help="stop after the table")
    once = parser.parse_args().once
    for number in _ENDINGS:
        signal.signal(number, _end)
    status = 130  # interrupted before anything was shown
    try:
        if not once:
            _lock()
        with Lab(say, internet=not once) as lab:
            status, box = _show(lab)
            if not once:
                _stay(lab, box)
    except BoxError as error:
        print(f"\n{error}\nThe last box's logs: build/lab-logs/", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nended; everything is removed", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
