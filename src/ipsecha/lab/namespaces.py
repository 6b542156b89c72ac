"""Network namespaces joined by veth pairs and bridges: a small network on one machine, and its certain removal.

All names begin with ``iha-`` and carry the process id of the run and the time that process was born, so that a later
run recognises and removes what a killed one left behind.  The root namespace is never touched: veth pairs are made
with both ends where they belong.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from ipsecha.lab.processes import LabError, birth, kill_all, run, start

PREFIX = "iha-"
NETNS_DIRECTORY = Path("/run/netns")

_OWN_NAME = re.compile(rf"^{PREFIX}(\d+)\.(\d+)\.\d+-[a-z0-9-]+$")
_runs = itertools.count()

# No duplicate address detection: an IPv6 address is usable at once; routers do not ask for routers.
_SETTINGS = {
    "ipv4/ip_forward": 1,
    "ipv4/conf/all/rp_filter": 0,
    "ipv4/conf/default/rp_filter": 0,
    "ipv4/conf/all/send_redirects": 0,
    "ipv4/conf/default/send_redirects": 0,
    "ipv6/conf/all/forwarding": 1,
    "ipv6/conf/all/accept_dad": 0,
    "ipv6/conf/default/accept_dad": 0,
    "ipv6/conf/default/router_solicitations": 0,
}


def available() -> str | None:
    """None where namespaces can be built here, otherwise the reason why not."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the command ip (package iproute2) is missing"
    probe = run(["unshare", "--net", "true"], check=False)
    return None if probe.returncode == 0 else f"this kernel gives no network namespaces: {probe.stderr.strip()}"


class Namespace:
    """One network namespace; made and removed by its Topology."""

    def __init__(self, name: str, role: str) -> None:
        self.name = name
        self.role = role

    def __repr__(self) -> str:
        return f"Namespace({self.name})"

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` inside; ``ip`` replaces itself, so that the process id is argv's."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self, *argv: str, stdin: str | None = None, timeout_s: float = 20.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end (see processes.run)."""
        return run(self.command(argv), stdin=stdin, timeout_s=timeout_s, check=check)

    def start(
        self,
        argv: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Starts a process inside (see processes.start)."""
        return start(self.command(argv), log, environment=environment, stdin=stdin)

    def ip(self, *lines: str) -> None:
        """Carries out ``ip`` commands inside, as one batch.  Raises LabError with the commands on failure."""
        run(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def ping(self, address: str, count: int = 1, timeout_s: float = 2.0, size: int = 56) -> bool:
        """Whether at least one of ``count`` echo requests was answered within ``timeout_s``."""
        argv = ["ping", "-q", "-n", "-i", "0.1", "-c", str(count), "-s", str(size), "-w", str(max(1, int(timeout_s)))]
        return self.run(*argv, address, check=False, timeout_s=timeout_s + 5).returncode == 0

    def processes(self) -> list[int]:
        """Ids of the processes that live inside."""
        done = run(["ip", "netns", "pids", self.name], check=False)
        return [int(pid) for pid in done.stdout.split()]


class Topology:
    """A set of namespaces and what joins them; a context manager that removes all of it on the way out.

    The way out includes exceptions, SIGTERM and SIGHUP (raised as SystemExit while the topology stands).  Where even
    that fails, the next run's ``remove_leftovers`` does it.
    """

    def __init__(self) -> None:
        born = birth(os.getpid())
        self.run_id = f"{os.getpid()}.{born}.{next(_runs)}"
        self._namespaces: dict[str, Namespace] = {}
        self._signals: dict[int, signal.Handlers | int | None] = {}

    def __enter__(self) -> Topology:
        reason = available()
        if reason:
            raise LabError(reason)
        remove_leftovers()
        self._signals = _signals_to_exit()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _signals_held():
            for namespace in reversed(self._namespaces.values()):
                _remove(namespace)
            self._namespaces.clear()
        for number, handler in self._signals.items():
            signal.signal(number, handler)

    def __getitem__(self, role: str) -> Namespace:
        return self._namespaces[role]

    def has(self, role: str) -> bool:
        return role in self._namespaces

    def __iter__(self) -> Iterator[Namespace]:
        return iter(self._namespaces.values())

    def namespace(self, role: str) -> Namespace:
        """Makes a namespace that forwards IPv4 and IPv6.  ``role`` is a short lower-case word, unique here."""
        if role in self._namespaces:
            raise LabError(f"there is a namespace {role} already")
        made = Namespace(f"{PREFIX}{self.run_id}-{role}", role)
        run(["ip", "netns", "add", made.name])
        self._namespaces[role] = made
        settings = "".join(f"[ ! -e {key} ] || echo {value} > {key}\n" for key, value in _SETTINGS.items())
        made.run("sh", "-c", f"cd /proc/sys/net\n{settings}")
        made.ip("link set lo up")
        return made

    def bridge(self, role: str, name: str, mtu: int = 1500) -> None:
        """Makes a bridge without delays inside the namespace ``role``."""
        self[role].ip(
            f"link add {name} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
            f"link set {name} mtu {mtu} up",
        )

    def cable(self, role: str, interface: str, far_role: str, far_interface: str, mtu: int = 1500) -> None:
        """Joins two namespaces by a veth pair and brings both ends up."""
        near, far = self[role], self[far_role]
        ends = f"name {interface} netns {near.name} mtu {mtu} type veth", f"name {far_interface} netns {far.name}"
        run(["ip", "link", "add", *ends[0].split(), "peer", *ends[1].split(), "mtu", str(mtu)])
        near.ip(f"link set {interface} up")
        far.ip(f"link set {far_interface} up")

    def plug(self, role: str, interface: str, switch: str, bridge: str, mtu: int = 1500) -> None:
        """Joins a namespace to a bridge inside ``switch``; the far end (the switch's port) is ``port_name``."""
        port = port_name(role, interface)
        self.cable(role, interface, switch, port, mtu)
        self[switch].ip(f"link set {port} master {bridge}")

    def address(self, role: str, interface: str, *addresses: str) -> None:
        """Gives an interface addresses with prefix lengths, IPv4 or IPv6."""
        self[role].ip(*(_address_command(text, interface) for text in addresses))

    def route(self, role: str, destination: str, via: str) -> None:
        """Routes ``destination`` (a prefix or ``default``) through the gateway ``via``."""
        family = "-6" if ":" in via else "-4"
        run(["ip", family, "-n", self[role].name, "route", "replace", destination, "via", via])


def _address_command(text: str, interface: str) -> str:
    return f"addr add {text} dev {interface}" + (" nodad" if ":" in text else "")


def port_name(role: str, interface: str) -> str:
    """The name of the switch's port for this interface of this namespace."""
    return f"{role}-{interface}"


def set_cables(switch: Namespace, role: str, interfaces: Sequence[str], connected: bool) -> None:
    """Pulls or plugs the cables between a namespace and the switch: the far ends lose or regain their carrier."""
    state = "up" if connected else "down"
    switch.ip(*(f"link set {port_name(role, interface)} {state}" for interface in interfaces))


def isolate(switch: Namespace, roles: Sequence[str], interfaces: Sequence[str], isolated: bool) -> None:
    """Lets the switch carry nothing between these namespaces, or carry it again; all keep their carrier, and reach
    everybody else."""
    state = "on" if isolated else "off"
    ports = [port_name(role, interface) for role in roles for interface in interfaces]
    switch.ip(*(f"link set dev {port} type bridge_slave isolated {state}" for port in ports))


def remove_leftovers() -> list[str]:
    """Removes namespaces that runs of the lab left behind whose process is gone; returns their names."""
    removed = []
    names = sorted(entry.name for entry in NETNS_DIRECTORY.iterdir()) if NETNS_DIRECTORY.is_dir() else []
    for name in names:
        match = _OWN_NAME.match(name)
        if match is None or birth(int(match[1])) == int(match[2]):
            continue
        _remove(Namespace(name, "leftover"))
        removed.append(name)
    return removed


def _remove(namespace: Namespace) -> None:
    """Ends what still runs inside and deletes the namespace; with it go its interfaces and their far ends."""
    kill_all(namespace.processes())
    run(["ip", "netns", "del", namespace.name], check=False)


def _signals_to_exit() -> dict[int, signal.Handlers | int | None]:
    """Lets SIGTERM and SIGHUP unwind the stack; returns the handlers to put back (none outside the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, signal.Handlers | int | None] = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            before[number] = signal.signal(number, _exit)  # type: ignore[assignment]
    return before


def _exit(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


@contextmanager
def _signals_held() -> Iterator[None]:
    """No signal interrupts the removal: it is short and bounded."""
    signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
