"""The names and numbers that control (which builds the data plane) and the proxy (which uses it) share.

Each worker has one TUN device and one TPROXY listener. nftables hashes a client's source address to
a worker, marks its packets for that worker's TUN, and hands what the worker writes back into the TUN
to the worker's listener. So a SYN and the socket it becomes meet in one process.
"""

from __future__ import annotations

# More workers than this gains nothing on any box we build for; it bounds marks, ports and tables.
MAX_WORKERS = 64

TUN_MTU = 65_535  # never the reason for a fragment: the LAN's and the WAN's MTU decide

MARK_LOCAL = 0x1  # deliver to a transparent socket of this box
MARK_WAN = 0x2  # SO_MARK of what sends datagrams on the WAN: nothing routes by it
MARK_TO_CLIENT = 0x3  # likewise, to clients
MARK_TUN_BASE = 0x100  # + worker: route into the worker's TUN

TABLE_LOCAL = 100  # `local ::/0 dev lo`
TABLE_TUN_BASE = 1000  # + worker: `default dev isthN`

# The image reserves these in net.ipv4.ip_local_reserved_ports, so that no dialled socket takes one.
LISTENER_PORT_BASE = 6400

# The workers' UDP ports on the WAN: all but the privileged ones, where no other socket stands on one.
FIRST_UDP_PORT, LAST_UDP_PORT = 1024, 65_535

UNBOUND_PORT = 5335  # on 127.0.0.1, behind the DNS64 front


def tun_name(worker: int) -> str:
    """Name of the worker's TUN device."""
    return f"isth{worker}"


def listener_port(worker: int) -> int:
    """Port of the worker's transparent sockets: TCP and UDP on [::1], UDP on 127.0.0.1."""
    return LISTENER_PORT_BASE + worker


def tun_mark(worker: int) -> int:
    """Firewall mark that routes a packet into the worker's TUN."""
    return MARK_TUN_BASE + worker


def tun_table(worker: int) -> int:
    """Routing table that holds the worker's TUN route."""
    return TABLE_TUN_BASE + worker


def worker_count(configured: int, cpus: int) -> int:
    """``[proxy] workers``, where 0 means one for each CPU; at most MAX_WORKERS."""
    return min(configured or max(cpus, 1), MAX_WORKERS)


def udp_ports(worker: int, workers: int) -> range:
    """The worker's part of the UDP ports: those that its clients' datagrams leave the box by."""
    count = (LAST_UDP_PORT + 1 - FIRST_UDP_PORT) // workers
    first = FIRST_UDP_PORT + worker * count
    return range(first, first + count)
