"""The supervisor: holds each worker's TUN and listener, replaces the dead, answers control.

It does no work of the data path. It holds the descriptors so that packets and handshakes wait, and
are not refused, while a worker is being replaced.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket, socketpair
from typing import Any

import varlink

from appliance import __version__
from appliance.config.schema import Config
from appliance.proxy.tun import open_listener, open_tun
from appliance.proxy.worker import MAX_LISTED, run_worker

# How long a worker may take to answer; it serves thousands of sessions meanwhile.
ANSWER_TIMEOUT = 1.0
# A worker that dies this soon after its start waits before the next try, doubling up to the maximum.
QUICK_DEATH = 1.0
FIRST_PAUSE = 0.05
MAX_PAUSE = 5.0
STOP_TIMEOUT = 2.0
POLL_INTERVAL = 1.0
# The log is moved away at this size, and so many moved ones are kept.
MAX_LOG_BYTES = 16 << 20
KEPT_LOGS = 4
MAX_MESSAGE = 65_536
MAX_CLIENTS = 32
MAX_ANSWER = 16 << 20

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


class WorkerProcess:
    """One worker as its supervisor sees it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.tun = open_tun(index)
        self.listener = open_listener(index)
        self.pid = 0
        self.pidfd = -1
        self.line: socket | None = None
        self.started = 0.0
        self.restarts = 0
        self.pause = FIRST_PAUSE
        self.start_at = 0.0
        self.rest = b""

    def ask(self, question: dict[str, Any]) -> dict[str, Any] | None:
        """The worker's answer, or None when it does not give one in time."""
        if self.line is None:
            return None
        try:
            self.line.sendall(json.dumps(question).encode() + b"\n")
            answer = b""
            deadline = time.monotonic() + ANSWER_TIMEOUT
            while not answer.endswith(b"\n"):
                self.line.settimeout(max(deadline - time.monotonic(), 0.01))
                data = self.line.recv(1 << 20)
                if not data or len(answer) > MAX_ANSWER:
                    return None
                answer += data
            found: dict[str, Any] = json.loads(answer)
            return found
        except (OSError, ValueError):
            return None


class Supervisor:
    """The proxy's parent process."""

    def __init__(self, config: Config, workers: int, runtime: Path, log_path: Path | None) -> None:
        self._config = config
        self._runtime = runtime
        self._log_path = log_path
        self._workers = [WorkerProcess(index) for index in range(workers)]
        self._poll = select.poll()
        self._stop = False
        self._clients: dict[int, tuple[socket, bytes]] = {}
        self._warnings: list[str] = []
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

            def ListSessions(self, limit: int, search: str | None) -> dict[str, Any]:  # noqa: N802
                return supervisor.sessions(limit, search)

        self._service._add_interface("org.isthmus.proxy", Interface())
        self._socket = self._listen(runtime / "proxy.sock")

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
        """Serve until SIGTERM or SIGINT."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        self._poll.register(wake_read, select.POLLIN)
        self._poll.register(self._socket.fileno(), select.POLLIN)
        for worker in self._workers:
            self._start(worker)
        try:
            while not self._stop:
                self._turn(wake_read)
        finally:
            self._end_workers()
            (self._runtime / "proxy.sock").unlink(missing_ok=True)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stop = True

    def _turn(self, wake_read: int) -> None:
        now = time.monotonic()
        due = [w.start_at - now for w in self._workers if not w.pid]
        wait = max(min([POLL_INTERVAL, *due]), 0.0)
        for fd, _event in self._poll.poll(wait * 1000):
            if fd == wake_read:
                os.read(wake_read, 512)
            elif fd == self._socket.fileno():
                self._accept()
            elif fd in self._clients:
                self._serve(fd)
            else:
                self._reap(fd)
        now = time.monotonic()
        for worker in self._workers:
            if not worker.pid and worker.start_at <= now and not self._stop:
                self._start(worker)
        self._rotate_log()

    def _start(self, worker: WorkerProcess) -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.set_wakeup_fd(-1)
                ours.close()
                self._socket.close()
                for other in self._workers:
                    if other is not worker:
                        os.close(other.tun)
                        other.listener.close()
                        if other.line is not None:
                            other.line.close()
                for client, _rest in self._clients.values():
                    client.close()
                run_worker(worker.index, self._config, worker.tun, worker.listener, theirs, self._log_path)
                code = 0
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        theirs.close()
        worker.pid = pid
        worker.pidfd = os.pidfd_open(pid)
        worker.line = ours
        worker.started = time.time()
        self._poll.register(worker.pidfd, select.POLLIN)

    def _reap(self, pidfd: int) -> None:
        for worker in self._workers:
            if worker.pidfd != pidfd:
                continue
            _pid, status = os.waitpid(worker.pid, 0)
            self._poll.unregister(pidfd)
            os.close(pidfd)
            if worker.line is not None:
                worker.line.close()
            lived = time.time() - worker.started
            worker.pause = min(worker.pause * 2, MAX_PAUSE) if lived < QUICK_DEATH else FIRST_PAUSE
            worker.start_at = time.monotonic() + (worker.pause if lived < QUICK_DEATH else 0.0)
            worker.pid, worker.pidfd, worker.line = 0, -1, None
            worker.restarts += 1
            if not self._stop:
                end = os.waitstatus_to_exitcode(status)
                how = f"signal {-end}" if end < 0 else f"exit status {end}"
                print(f"worker {worker.index} ended ({how}); a new one takes over", file=sys.stderr)

    def _end_workers(self) -> None:
        for worker in self._workers:
            if worker.line is not None:
                worker.line.close()  # a worker whose line ends, ends
        deadline = time.monotonic() + STOP_TIMEOUT
        for worker in self._workers:
            if not worker.pid:
                continue
            while time.monotonic() < deadline:
                if os.waitpid(worker.pid, os.WNOHANG)[0]:
                    break
                time.sleep(0.01)
            else:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)

    def _rotate_log(self) -> None:
        path = self._log_path
        try:
            if path is None or path.stat().st_size < MAX_LOG_BYTES:
                return
            for number in range(KEPT_LOGS - 1, 0, -1):
                older = path.with_name(f"{path.name}.{number}")
                if older.exists():
                    older.rename(path.with_name(f"{path.name}.{number + 1}"))
            path.rename(path.with_name(f"{path.name}.1"))
        except OSError:
            return  # no log yet, or a disk that refuses: the traffic goes on
        for worker in self._workers:
            worker.ask({"ask": "reopen"})

    # -- what control asks -----------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """GetStatus of org.isthmus.proxy: counters summed over the workers."""
        totals: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
        medians: list[float] = []
        warnings = []
        workers = []
        for worker in self._workers:
            answer = worker.ask({"ask": "status"})
            sessions = 0
            if answer is None:
                warnings.append(f"Worker {worker.index} does not answer.")
            else:
                for name in _COUNTS:
                    totals[name] += answer[name]
                sessions = answer["tcp"] + answer["udp"] + answer["icmp"]
                if answer["dial_ms_median"] is not None:
                    medians.append(answer["dial_ms_median"])
                if answer["log_dropped"]:
                    warnings.append(f"{answer['log_dropped']} log lines could not be written.")
            workers.append(
                {
                    "index": worker.index,
                    "pid": worker.pid,
                    "sessions": sessions,
                    "started": worker.started,
                    "restarts": worker.restarts,
                }
            )
        totals["dial_ms_median"] = sum(medians) / len(medians) if medians else None
        return {"workers": workers, "counters": totals, "warnings": warnings}

    def sessions(self, limit: int, search: str | None) -> dict[str, Any]:
        """ListSessions of org.isthmus.proxy: the newest first, over all workers."""
        limit = max(1, min(limit, MAX_LISTED))
        found: list[dict[str, Any]] = []
        total = 0
        for worker in self._workers:
            answer = worker.ask({"ask": "sessions", "limit": limit, "search": search})
            if answer is not None:
                found += answer["sessions"]
                total += answer["total"]
        found.sort(key=lambda session: float(session["age"]))
        return {"sessions": found[:limit], "total": total}

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
