"""The supervisor: holds each worker's TUN and listeners, replaces the dead, answers control.

It does no work of the data path. It holds the descriptors so that packets and handshakes wait, and
are not refused, while a worker is being replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair
from typing import Any

import varlink

from appliance import __version__, engine
from appliance.config import load
from appliance.config.schema import Config, as_plain
from appliance.dataplane import worker_count
from appliance.errors import IsthmusError
from appliance.proxy.denials import Denials
from appliance.proxy.listing import MAX_LISTED, PLACE, cursor_of
from appliance.proxy.passwords import Helper
from appliance.proxy.seat import ANSWER_TIMEOUT, TAKE_UP_TIMEOUT, Process, Seat
from appliance.proxy.tally import Places, Tally
from appliance.proxy.verifier import COUNTS
from appliance.proxy.worker import READY, run_worker
from appliance.session.access import FILE as ACCESS
from appliance.session.access import AccessRequests
from appliance.session.hits import FILE as HITS
from appliance.session.rotation import DAY, Rotation
from appliance.session.row import NoRowError, parse

STOP_TIMEOUT = 2.0
POLL_INTERVAL = 1.0
# Sessions of a page for which all workers are asked at once. A worker waits half a second for its answer to
# be read, and then ends: that has to fit into the socket's buffer (208 KiB; a session takes one at most).
MAX_TOGETHER = 128
# The log is moved away at this size, or when it is a day old, and so many moved ones are kept. They are what
# the history has to catch up with after it was away.
MAX_LOG_BYTES = 16 << 20
KEPT_LOGS = 4
MAX_MESSAGE = 65_536
MAX_CLIENTS = 32
MAX_ID = 40  # signs of a session's
# Loading the new program and the configuration, on a box that is busy.
CHECK_TIMEOUT = 30.0
# A new worker's start, before the one before it lets go of its listeners; the supervisor waits meanwhile.
READY_TIMEOUT = 10.0
# Rules and users that a worker may be told of while it serves. Reading more takes it longer than it may be
# silent (ANSWER_TIMEOUT): then new workers start with the configuration, and the others drain.
MAX_TOLD = 5_000
# The password helper's, in the proxy's part of the runtime folder.
HELPER_SOCKET = "verify.sock"
# The limits' counters, in the proxy's own part of the state folder.
METERS = "proxy/meters"
# Environment variable by which one program's descriptors reach the next.
# Seconds between two looks for requests for access that have expired, which keep for days.
REQUESTS_INTERVAL = 600.0
_HEIRLOOMS = "ISTHMUS_HEIRLOOMS"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)

_COUNTS = (
    "tcp",
    "udp",
    "icmp",
    "half_open",
    "opened",
    "refused",
    "unreachable",
    "denied",
    "limited",
    "bytes_to_wan",
    "bytes_to_lan",
)


class Supervisor:
    """The proxy's parent process."""

    def __init__(
        self,
        config_path: Path,
        config: Config,
        workers: int,
        runtime: Path,
        log_path: Path | None,
        certificates: Path,
    ) -> None:
        """``certificates``: the folder with the box's own, for the encrypted listeners."""
        self._certificates = certificates
        self._config_path = config_path
        self._config = config
        self._runtime = runtime
        self._log_path = log_path
        self._rotation = None if log_path is None else Rotation(log_path, MAX_LOG_BYTES, KEPT_LOGS, _time_of)
        self._seats: list[Seat] = []
        self._draining: list[Process] = []
        self._poll = select.poll()
        self._signals: set[int] = set()
        self._places = Places()  # workers of a program before are not in it, while they drain
        self._clients: dict[int, tuple[socket, bytes]] = {}
        self.access = AccessRequests(certificates.parent / "proxy" / ACCESS)
        self._look_at_requests = 0.0
        self._service = varlink.Service(
            vendor="Isthmus",
            product="isthmus-proxy",
            version=__version__,
            interface_dir=str(Path(__file__).parent),
        )
        supervisor = self

        class Interface:
            """org.isthmus.proxy, method by method."""

            def GetStatus(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling
                return supervisor.status()

            def ListSessions(  # noqa: N802
                self, limit: int, search: str | None, cursor: str | None
            ) -> dict[str, Any]:
                return supervisor.sessions(limit, search, cursor)

            def Kill(self, id: str) -> dict[str, Any]:  # noqa: N802, A002
                return {"killed": supervisor.kill(id)}

            def EraseLog(self) -> dict[str, Any]:  # noqa: N802
                return {"problem": supervisor.erase_log()}

            def ListRequests(self) -> dict[str, Any]:  # noqa: N802
                return {"requests": supervisor.access.plain(time.time())}

            def RemoveRequest(self, id: str) -> dict[str, Any]:  # noqa: N802, A002
                try:
                    return {"removed": supervisor.access.remove(id, time.time()), "problem": None}
                except OSError as error:
                    words = f"The requests for access cannot be written: {error.strerror or error}."
                    return {"removed": False, "problem": words}

            def Reload(self) -> dict[str, Any]:  # noqa: N802
                return {"problem": supervisor.reload()}

        self._service._add_interface("org.isthmus.proxy", Interface())
        inherited = os.environ.pop(_HEIRLOOMS, None)
        if inherited is None:
            self._seats = [Seat.open(index) for index in range(workers)]
            self._socket = self._listen(runtime / "proxy.sock")
        else:
            self._inherit(json.loads(inherited), workers)
        self._helper = Helper(runtime / HELPER_SOCKET)
        self._denials = Denials(runtime, log_path, certificates.parent / "proxy" / HITS)
        self._denials.configure(config)

    def _listen(self, path: Path) -> socket:
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        sock = socket(AF_UNIX, SOCK_STREAM)
        sock.bind(str(path))
        path.chmod(0o660)
        sock.listen(MAX_CLIENTS)
        sock.setblocking(False)
        return sock

    # -- the life of workers ---------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. SIGHUP reads the configuration anew, SIGUSR2 the program."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._poll.register(wake_read, select.POLLIN)
        self._poll.register(self._socket.fileno(), select.POLLIN)
        self._poll.register(self._denials.socket.fileno(), select.POLLIN)
        for process in self._processes():  # of the program before
            self._poll.register(process.pidfd, select.POLLIN)
        self._start_helper()
        for seat in self._seats:
            self._fill(seat)
        try:
            while not self._signals & {signal.SIGTERM, signal.SIGINT}:
                self._turn(wake_read)
        finally:
            self._end_workers()
            self._denials.close()
            for name in ("proxy.sock", HELPER_SOCKET):
                (self._runtime / name).unlink(missing_ok=True)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signals.add(number)

    def _turn(self, wake_read: int) -> None:
        now = time.monotonic()
        places: tuple[Seat | Helper, ...] = (*self._seats, self._helper)
        due = [place.start_at - now for place in places if place.process is None]
        wait = max(min([POLL_INTERVAL, *due]), 0.0)
        for fd, _event in self._poll.poll(wait * 1000):
            if fd == wake_read:
                os.read(wake_read, 512)
            elif fd == self._socket.fileno():
                self._accept()
            elif fd == self._denials.socket.fileno():
                self._denials.receive()
            elif fd in self._clients:
                self._serve(fd)
            else:
                self._reap(fd)
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self.reload()
        if signal.SIGUSR2 in self._signals:
            self._signals.discard(signal.SIGUSR2)
            self._become_the_next()
        now = time.monotonic()
        for seat in self._seats:
            if seat.process is None and seat.start_at <= now:
                self._fill(seat)
        if self._helper.process is None and self._helper.start_at <= now:
            self._start_helper()
        self._rotate_log()
        if self._look_at_requests <= now:
            self._look_at_requests = now + REQUESTS_INTERVAL
            with contextlib.suppress(OSError):  # a broken disk: they go with the next change
                self.access.drop_expired(time.time())

    def _start_helper(self) -> None:
        """Start the process that verifies passwords."""
        self._helper.start(lambda: self._let_go(None))
        assert self._helper.process is not None
        self._poll.register(self._helper.process.pidfd, select.POLLIN)

    def _fill(self, seat: Seat) -> None:
        """Put a new worker on a seat; one that sits there hands over to it, and drains."""
        before = seat.process
        estate, heir = socketpair(AF_UNIX, SOCK_SEQPACKET) if before is not None else (None, None)
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        place = self._places.take()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.set_wakeup_fd(-1)
                self._let_go(seat, ours, estate)
                self._helper.close()
                run_worker(
                    seat.index,
                    self._config,
                    seat.tun,
                    seat.listener,
                    seat.from_clients,
                    seat.from_origins,
                    theirs,
                    self._log_path,
                    self._certificates,
                    self._runtime / HELPER_SOCKET,
                    self._runtime.parent,
                    self._certificates.parent / METERS,
                    Tally(self._places.words, place),
                    heir,
                )
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        seat.process = Process(seat.index, pid, ours, time.time(), place)
        self._poll.register(seat.process.pidfd, select.POLLIN)
        if before is not None and heir is not None and estate is not None:
            heir.close()
            estate.settimeout(READY_TIMEOUT)
            with contextlib.suppress(OSError):
                estate.recv(len(READY))  # or it died, or is slow: the old one has to go all the same
            self._drain(before, estate)

    def _let_go(self, seat: Seat | None, *ours: socket | None) -> None:
        """In a child: nothing of the supervisor's and of other workers' stays open, nor another's seat."""
        for sock in (
            *ours,
            self._socket,
            self._denials.socket,
            *(client for client, _rest in self._clients.values()),
        ):
            if sock is not None:
                sock.close()
        for other in self._seats:
            if other is not seat:
                other.close()
            if other.process is not None:
                other.process.close()
        for process in self._draining:
            process.close()

    def _reap(self, pidfd: int) -> None:
        helper = self._helper.process
        if helper is not None and helper.pidfd == pidfd:
            self._poll.unregister(pidfd)
            self._wait(helper)
            self._helper.vacate()
            print("the password helper ended; a new one takes over", file=sys.stderr)
            return
        for process in self._draining:
            if process.pidfd == pidfd:
                self._poll.unregister(pidfd)
                self._wait(process)
                self._places.give_back(process.place)
                process.close()
                self._draining.remove(process)
                return
        for seat in self._seats:
            process_here = seat.process
            if process_here is None or process_here.pidfd != pidfd:
                continue
            self._poll.unregister(pidfd)
            end = self._wait(process_here)
            self._places.give_back(process_here.place)
            seat.vacate()
            how = f"signal {-end}" if end < 0 else f"exit status {end}"
            print(f"worker {seat.index} ended ({how}); a new one takes over", file=sys.stderr)

    @staticmethod
    def _wait(process: Process) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        except ChildProcessError:
            return 0

    def _end_workers(self) -> None:
        self._helper.end()
        processes = [*self._draining, *(seat.process for seat in self._seats if seat.process is not None)]
        for process in processes:
            process.line.close()  # a worker whose line ends, ends
        deadline = time.monotonic() + STOP_TIMEOUT
        for process in processes:
            while time.monotonic() < deadline:
                if os.waitpid(process.pid, os.WNOHANG)[0]:
                    break
                time.sleep(0.01)
            else:
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)

    # -- a new configuration, a new program ------------------------------------------------------

    def reload(self) -> str | None:
        """Take up the configuration file; the problem in words where it is refused and nothing changes.

        Sessions stay. With another number of workers, clients' UDP flows may move to another worker,
        and so to another source port.
        """
        try:
            config = load(self._config_path)
            wanted = worker_count(config.proxy.workers, len(os.sched_getaffinity(0)))
            fresh = [Seat.open(index) for index in range(len(self._seats), wanted)]
        except IsthmusError as error:
            print(f"isthmus-proxy: the old configuration stays: {error}", file=sys.stderr)
            return str(error)
        self._config = config
        self._denials.configure(config)
        self._give_up(self._seats[wanted:])
        del self._seats[wanted:]
        if len(config.rule) + len(config.user) > MAX_TOLD:
            for seat in self._seats:
                if seat.process is not None:
                    self._fill(seat)  # made with it; the one before drains
        else:
            self._tell_all(config)
        for seat in fresh:
            self._seats.append(seat)
            self._fill(seat)
        return None

    def _tell_all(self, config: Config) -> None:
        """Have each worker take the configuration up, at the same time."""
        question = {"ask": "configure", "config": as_plain(config)}
        processes = [seat.process for seat in self._seats if seat.process is not None]
        told = [process.tell(question) for process in processes]
        deadline = time.monotonic() + TAKE_UP_TIMEOUT
        for process, heard in zip(processes, told, strict=True):
            if not heard or process.hear(deadline - time.monotonic()) is None:
                # It would go on by the old rules: a new one takes its place.
                print(f"worker {process.index} does not take the configuration up: ended", file=sys.stderr)
                os.kill(process.pid, signal.SIGKILL)

    def _give_up(self, seats: list[Seat]) -> None:
        """Surplus workers: what they hold goes to the first one, their relays they carry to the end."""
        first = self._seats[0].process
        for seat in seats:
            if seat.process is not None:
                estate, heir = socketpair(AF_UNIX, SOCK_SEQPACKET)
                adopting = first is not None and first.tell({"ask": "adopt"}, heir.fileno())
                heir.close()
                self._drain(seat.process, estate)
                if adopting and first is not None:
                    first.hear()
            seat.close()

    def _drain(self, process: Process, estate: socket) -> None:
        """Let a worker hand over through ``estate``, and end with its last relay or at the deadline."""
        question = {"ask": "drain", "deadline": self._config.proxy.timers.drain}
        self._draining.append(process)
        if process.ask(question, estate.fileno()) is None:
            print(f"worker {process.index} ({process.pid}) does not hand over: ended", file=sys.stderr)
            os.kill(process.pid, signal.SIGKILL)
        estate.close()

    def _become_the_next(self) -> None:
        """Start the program anew from disk, in this process: seats and workers are handed over to it."""
        command = [*sys.orig_argv, "--check"]
        tried = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT, check=False)
        if tried.returncode:
            print(f"the new program cannot serve; this one stays:\n{tried.stderr}", file=sys.stderr)
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._helper.end()  # the next program starts its own; workers put their questions again
        os.set_inheritable(self._socket.fileno(), True)
        heirlooms = {
            "socket": self._socket.fileno(),
            "seats": [seat.as_heirloom() for seat in self._seats],
            "draining": [process.as_heirloom() for process in self._draining],
        }
        sys.stderr.flush()
        program = sys.orig_argv[0]
        environment = {**os.environ, _HEIRLOOMS: json.dumps(heirlooms)}
        os.execvpe(program, sys.orig_argv, environment)  # noqa: S606 - the program that runs now

    def _inherit(self, heirlooms: dict[str, Any], workers: int) -> None:
        os.set_inheritable(heirlooms["socket"], False)
        self._socket = socket(fileno=heirlooms["socket"])
        self._socket.setblocking(False)
        self._draining = [Process.from_heirloom(found) for found in heirlooms["draining"]]
        self._seats = [Seat.from_heirloom(seat) for seat in heirlooms["seats"]]
        self._give_up(self._seats[workers:])
        del self._seats[workers:]
        self._seats += [Seat.open(index) for index in range(len(self._seats), workers)]

    def _rotate_log(self) -> None:
        rotation, now = self._rotation, time.time()
        if rotation is None:
            return
        try:
            rotation.forget(now - self._config.policy.retention_days * DAY)
            if not rotation.is_due(now):
                return
            rotation.move()
        except OSError:
            return  # no log yet, or a disk that refuses: the traffic goes on
        self._denials.reopen()
        for process in self._processes():
            process.ask({"ask": "reopen"})

    # -- what control asks -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """GetStatus of org.isthmus.proxy: counters summed over the workers."""
        totals: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
        medians: list[float] = []
        warnings = []
        if engine.WHY_PLAIN and not engine.ASKED_PLAIN:
            warnings.append(f"The engine is not compiled ({engine.WHY_PLAIN}): each session costs more.")
        counted: dict[int, int] = {}
        targets: list[dict[str, Any]] = []
        limits: dict[str, dict[str, Any]] = {}
        passwords: Counter[str] = Counter()
        for process in self._processes():
            answer = process.ask({"ask": "status"})
            if answer is None:
                warnings.append(f"Worker {process.index} does not answer.")
                continue
            for name in _COUNTS:
                totals[name] += answer[name]
            for limit in answer["limits"]:
                known = limits.setdefault(limit["reason"], {**limit, "count": 0, "recent": False})
                known["count"] += limit["count"]
                known["recent"] |= limit["recent"]
            passwords.update(answer["passwords"])
            counted[process.pid] = answer["tcp"] + answer["udp"] + answer["icmp"]
            if answer["dial_ms_median"] is not None:
                medians.append(answer["dial_ms_median"])
            warnings += [problem for problem in answer["problems"] if problem not in warnings]
            if process not in self._draining:
                targets = answer["targets"]  # each worker looks for itself; one's word is enough
            if answer["log_dropped"]:
                warnings.append(f"{answer['log_dropped']} log lines could not be written.")
        if self._helper.process is None:
            warnings.append("The process that verifies passwords is down.")
        totals["dial_ms_median"] = sum(medians) / len(medians) if medians else None
        workers = [
            _describe(seat.index, seat.process, seat.restarts, counted, draining=False)
            for seat in self._seats
        ]
        workers += [_describe(p.index, p, 0, counted, draining=True) for p in self._draining]
        return {
            "workers": workers,
            "counters": totals,
            "limits": list(limits.values()),
            "passwords": {name: passwords[name] for name in COUNTS},
            "warnings": warnings,
            "targets": targets,
        }

    def _processes(self) -> list[Process]:
        """Those on the seats, then those that drain."""
        return [*(seat.process for seat in self._seats if seat.process is not None), *self._draining]

    def sessions(self, limit: int, search: str | None, cursor: str | None = None) -> dict[str, Any]:
        """ListSessions of org.isthmus.proxy: the newest first, over all workers."""
        limit = max(1, min(limit, MAX_LISTED))
        found: list[dict[str, Any]] = []
        total = 0
        question = {"ask": "sessions", "limit": limit + 1, "search": search, "cursor": cursor}
        for process, answer in self._answers(question, together=limit <= MAX_TOGETHER):
            if answer is not None:
                if process in self._draining:
                    # Its successor has its index, and numbers of its own.
                    for session in answer["sessions"]:
                        number = session["id"].partition("-")[2]
                        session["id"] = f"{process.index}.{process.pid}-{number}"
                found += answer["sessions"]
                total += answer["total"]
        found.sort(key=lambda session: tuple(session[PLACE]), reverse=True)
        more = len(found) > limit
        found = found[:limit]
        places = [session.pop(PLACE) for session in found]
        return {"sessions": found, "total": total, "cursor": cursor_of(places[-1]) if more else ""}

    def _answers(
        self, question: dict[str, Any], together: bool
    ) -> Iterator[tuple[Process, dict[str, Any] | None]]:
        """Every process with its answer. ``together``: all are asked before one is heard."""
        if not together:
            for process in self._processes():
                yield process, process.ask(question)
            return
        for process in [process for process in self._processes() if process.tell(question)]:
            yield process, process.hear()

    def kill(self, number: str) -> bool:
        """Kill of org.isthmus.proxy: end one session by its ``id``; False where there is none."""
        worker, _dash, session = number.partition("-")
        if not (session.isascii() and session.isdecimal() and len(number) < MAX_ID):
            return False
        places = {f"{process.index}.{process.pid}": process for process in self._draining}
        places |= {str(seat.index): seat.process for seat in self._seats if seat.process is not None}
        process = places.get(worker)
        if process is None:
            return False
        answer = process.ask({"ask": "kill", "number": int(session)})
        return answer is not None and bool(answer.get("killed"))

    def erase_log(self) -> str | None:
        """EraseLog of org.isthmus.proxy: why it could not be erased, in words."""
        if self._rotation is not None:
            for process in self._processes():
                process.ask({"ask": "flush"})  # or it would write what is over yet
            self._denials.receive()
            try:
                self._rotation.erase()
            except OSError as error:
                return f"The log of sessions cannot be erased: {error.strerror or error}."
        try:
            self.access.erase()
        except OSError as error:
            return f"The requests for access cannot be erased: {error.strerror or error}."
        return None

    def _accept(self) -> None:
        try:
            client, _address = self._socket.accept()
        except OSError:
            return
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return
        client.settimeout(ANSWER_TIMEOUT)
        self._clients[client.fileno()] = (client, b"")
        self._poll.register(client.fileno(), select.POLLIN)

    def _serve(self, fd: int) -> None:
        client, rest = self._clients[fd]
        try:
            data = client.recv(MAX_MESSAGE)
            rest += data
            if not data or len(rest) > MAX_MESSAGE:
                raise ConnectionResetError
            *messages, rest = rest.split(b"\0")
            for message in messages:
                for answer in self._service.handle(message):
                    client.sendall(answer + b"\0")
            self._clients[fd] = (client, rest)
        except (OSError, ValueError, TypeError, AttributeError):
            # The end, or what the Varlink library cannot read: the connection goes, we stay.
            self._poll.unregister(fd)
            del self._clients[fd]
            client.close()


def _time_of(line: bytes) -> float | None:
    """When a line of the log was written; None where it is none."""
    try:
        return parse(line).time / 1000
    except NoRowError:
        return None


def _describe(
    index: int, process: Process | None, restarts: int, sessions: dict[int, int], draining: bool
) -> dict[str, Any]:
    """The varlink type ``Worker``; without a process, one that is about to be started."""
    return {
        "index": index,
        "pid": process.pid if process else 0,
        "sessions": sessions.get(process.pid, 0) if process else 0,
        "started": process.started if process else 0.0,
        "restarts": restarts,
        "draining": draining,
    }
