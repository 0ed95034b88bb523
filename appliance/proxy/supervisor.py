"""The supervisor: holds each worker's TUN and listeners, replaces the dead, answers control.

It does no work of the data path. It holds the descriptors so that packets and handshakes wait, and
are not refused, while a worker is being replaced.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, socket, socketpair
from typing import Any

from appliance.config import load
from appliance.config.schema import Config, as_plain
from appliance.dataplane import worker_count
from appliance.errors import IsthmusError
from appliance.proxy.census import Census
from appliance.proxy.denials import Denials
from appliance.proxy.door import Door, listen
from appliance.proxy.passwords import Helper
from appliance.proxy.seat import ANSWER_TIMEOUT, TAKE_UP_TIMEOUT, Process, Seat
from appliance.proxy.succession import Estate, become_the_next, inherited, next_can_serve
from appliance.proxy.tally import Places, Tally
from appliance.proxy.worker import HAND_OVER_TIMEOUT, READY, run_worker
from appliance.session.access import FILE as ACCESS
from appliance.session.access import AccessRequests
from appliance.session.hits import FILE as HITS
from appliance.session.rotation import CATCH_UP, DAY, Rotation
from appliance.session.row import NoRowError, parse

STOP_TIMEOUT = 2.0
POLL_INTERVAL = 1.0
# The log is moved away at this size, or when it is a day old, and so many moved ones are kept. They are what
# the history has to catch up with after it was away.
MAX_LOG_BYTES = 16 << 20
KEPT_LOGS = 4
# A new worker's start, before the one before it lets go of its listeners; the supervisor waits meanwhile.
READY_TIMEOUT = 10.0
# Rules and users that a worker may be told of while it serves. Reading more takes it longer than it may be
# silent (ANSWER_TIMEOUT): then new workers start with the configuration, and the others drain.
MAX_TOLD = 5_000
# The password helper's, in the proxy's part of the runtime folder.
HELPER_SOCKET = "verify.sock"
# The limits' counters, in the proxy's own part of the state folder.
METERS = "proxy/meters"
# Seconds between two looks for requests for access that have expired, which keep for days.
REQUESTS_INTERVAL = 600.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)


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
        self.access = AccessRequests(certificates.parent / "proxy" / ACCESS)
        self._look_at_requests = 0.0
        estate = inherited()
        if estate is None:
            self._seats = [Seat.open(index) for index in range(workers)]
            sock = listen(runtime / "proxy.sock")
        else:
            sock, self._seats, self._draining = estate
            self._give_up(self._seats[workers:])
            del self._seats[workers:]
            self._seats += [Seat.open(index) for index in range(len(self._seats), workers)]
        self.census = Census(self._seats, self._draining)
        self._door = Door(sock, Interface(self), self._poll)
        self._helper = Helper(runtime / HELPER_SOCKET)
        self._denials = Denials(runtime, log_path, certificates.parent / "proxy" / HITS)
        self._denials.configure(config)

    # -- the life of workers ---------------------------------------------------------------------

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. SIGHUP reads the configuration anew, SIGUSR2 the program."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        self._poll.register(wake_read, select.POLLIN)
        self._poll.register(self._denials.socket.fileno(), select.POLLIN)
        for process in self.census.processes():  # of the program before
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
            elif self._door.owns(fd):
                self._door.on_event(fd)
            elif fd == self._denials.socket.fileno():
                self._denials.receive()
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
        self._door.close()
        for sock in (*ours, self._denials.socket):
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
        told = process.tell(question, estate.fileno())
        if not told or process.hear(HAND_OVER_TIMEOUT + ANSWER_TIMEOUT) is None:
            print(f"worker {process.index} ({process.pid}) does not hand over: ended", file=sys.stderr)
            os.kill(process.pid, signal.SIGKILL)
        estate.close()

    def _become_the_next(self) -> None:
        """Take the program anew from disk: seats and workers are handed over to it."""
        if not next_can_serve():
            return
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        # The next program starts its own; workers put their questions again.
        if self._helper.process is not None:
            self._poll.unregister(self._helper.process.pidfd)
            self._helper.end()
        try:
            become_the_next(Estate(self._door.socket, self._seats, self._draining))
        except OSError as error:  # gone since it was looked at, or no memory
            print(f"the new program does not start; this one stays: {error}", file=sys.stderr)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _rotate_log(self) -> None:
        rotation, now = self._rotation, time.time()
        if rotation is None:
            return
        try:
            rotation.forget(now - self._config.policy.retention_days * DAY, CATCH_UP)
            if not rotation.is_due(now):
                return
            rotation.move()
        except OSError:
            return  # no log yet, or a disk that refuses: the traffic goes on
        self._denials.reopen()
        for process in self.census.processes():
            process.ask({"ask": "reopen"})

    # -- what control asks -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """GetStatus of org.isthmus.proxy."""
        return self.census.status(self._helper.process is not None)

    def erase_log(self) -> str | None:
        """EraseLog of org.isthmus.proxy: why it could not be erased, in words."""
        if self._rotation is not None:
            for process in self.census.processes():
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


def _time_of(line: bytes) -> float | None:
    """When a line of the log was written; None where it is none."""
    try:
        return parse(line).time / 1000
    except NoRowError:
        return None


class Interface:
    """org.isthmus.proxy, method by method."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def GetStatus(self) -> dict[str, Any]:  # noqa: N802 - varlink's own spelling
        return self._supervisor.status()

    def ListSessions(self, limit: int, search: str | None, cursor: str | None) -> dict[str, Any]:  # noqa: N802
        return self._supervisor.census.sessions(limit, search, cursor)

    def Kill(self, id: str) -> dict[str, Any]:  # noqa: N802, A002
        return {"killed": self._supervisor.census.kill(id)}

    def EraseLog(self) -> dict[str, Any]:  # noqa: N802
        return {"problem": self._supervisor.erase_log()}

    def ListRequests(self) -> dict[str, Any]:  # noqa: N802
        return {"requests": self._supervisor.access.plain(time.time())}

    def RemoveRequest(self, id: str) -> dict[str, Any]:  # noqa: N802, A002
        try:
            return {"removed": self._supervisor.access.remove(id, time.time()), "problem": None}
        except OSError as error:
            words = f"The requests for access cannot be written: {error.strerror or error}."
            return {"removed": False, "problem": words}

    def Reload(self) -> dict[str, Any]:  # noqa: N802
        return {"problem": self._supervisor.reload()}
