"""Userspace ESP between two sites, measured with iperf3: our data plane beside strongSwan's (kernel-libipsec).

Everything is on one machine: both gateways, both hosts and iperf3 share its cores.  Gateways of both makes stand in the
same network and take turns.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from bench import sites
from bench.accounting import cpu_s
from bench.figures import Context, Figure, Topic
from ipsecha.lab import network, stage
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.processes import LabError, start, stop
from ipsecha.lab.stage import CHILD, CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan, child, connection

ROUNDS, QUICK_ROUNDS = 3, 1
SECONDS, QUICK_SECONDS = 5, 2
SMALL = 64
TRIES = 3
SERVER_START_S = 0.3
OURS, THEIRS, MIXED = "ipsecha on both sides", "strongSwan on both sides", "ipsecha and strongSwan"
MODES = {
    "TCP, A to B": (),
    "TCP, B to A": ("-R",),
    f"UDP, {SMALL} B, A to B": ("-u", "-b", "0", "-l", str(SMALL)),
}
TUNNEL = Tunnel(
    ike=sites.IKE,
    esp=sites.ESP,
    gateway_options={"encapsulate": True, "dpd": "off"},
    peer_options={"encapsulate": True, "dpd": "off"},
)

Site = Callable[[Topology, Path], AbstractContextManager[tuple[int, int]]]


@contextmanager
def _ours(topology: Topology, directory: Path) -> Iterator[tuple[int, int]]:
    with (
        stage.single(topology, directory / "a", TUNNEL) as gateway,
        stage.single(topology, directory / "b", TUNNEL, peer=True) as peer,
    ):
        gateway.initiate(CONNECTION, CHILD)
        gateway.wait_for("child SA", lambda member: member.children(CHILD))
        yield gateway.pid, peer.pid


def _plain() -> Tunnel:
    return Tunnel(ike=sites.IKE, esp=sites.ESP, gateway_options=TUNNEL.gateway_options)


@contextmanager
def _mixed(topology: Topology, directory: Path) -> Iterator[tuple[int, int]]:
    with (
        stage.single(topology, directory / "a", _plain()) as gateway,
        StrongSwan(topology["peer"], directory / "b", sites.SILENT) as peer,
    ):
        stage.configure_strongswan(peer, _plain())
        peer.initiate(CHILD)
        yield gateway.pid, peer.pid


@contextmanager
def _theirs(topology: Topology, directory: Path) -> Iterator[tuple[int, int]]:
    with (
        StrongSwan(topology["gw1"], directory / "a", sites.SILENT) as gateway,
        StrongSwan(topology["peer"], directory / "b", sites.SILENT) as peer,
    ):
        gateway.add_secret(stage.PSK_TEXT)
        near, far = (sites.RESPONDER, stage.GATEWAY_ID), (network.PEER_OUTER, stage.PEER_ID)
        children = {CHILD: child([network.NET_A], [network.NET_B], sites.ESP)}
        gateway.connections[CONNECTION] = connection(near, far, children, ike=sites.IKE)
        gateway.load()
        stage.configure_strongswan(peer, _plain())
        peer.initiate(CHILD)
        yield gateway.pid, peer.pid


SITES: dict[str, Site] = {OURS: _ours, THEIRS: _theirs, MIXED: _mixed}


def _iperf(topology: Topology, directory: Path, seconds: int, options: tuple[str, ...]) -> float:
    """What arrived: Mbit/s of TCP, thousands of packets per second of UDP."""
    for _ in range(TRIES):  # its own connection, too, goes through the tunnel that it fills
        answer = _try_iperf(topology, directory, seconds, options)
        if "error" not in answer and "end" in answer:
            break
    else:
        raise LabError(f"iperf3 {' '.join(options)}: {answer.get('error', 'no answer')}")
    end = answer["end"]
    if "-u" not in options:
        return float(end["sum_received"]["bits_per_second"]) / 1e6
    arrived = end["sum"]["packets"] - end["sum"]["lost_packets"]
    return float(arrived / end["sum"]["seconds"] / 1e3)


def _try_iperf(topology: Topology, directory: Path, seconds: int, options: tuple[str, ...]) -> dict[str, Any]:
    server = start(topology["hostb"].command(["iperf3", "-s", "-1"]), directory / "iperf3.log")
    time.sleep(SERVER_START_S)
    try:
        argv = ["iperf3", "--json", "-c", network.HOST_B, "-t", str(seconds), "-O", "1", *options]
        done = topology["hosta"].run(*argv, timeout_s=seconds + 30, check=False)
    finally:
        stop(server)
    answer = json.loads(done.stdout or "{}")
    assert isinstance(answer, dict)
    return answer


def _missing() -> str | None:
    return sites.missing() or (None if shutil.which("iperf3") else "iperf3 is not installed")


def _measure(topology: Topology, directory: Path, site: Site, seconds: int) -> tuple[dict[str, float], float]:
    """Rates by mode, and the seconds of CPU that both gateways have used for a gigabyte of TCP."""
    rates: dict[str, float] = {}
    with site(topology, directory) as pids:
        if not topology["hosta"].ping(network.HOST_B, count=5, timeout_s=5):
            raise LabError("nothing comes through the tunnel")
        for mode, options in MODES.items():
            before = sum(map(cpu_s, pids))
            rates[mode] = _iperf(topology, directory, seconds, options)
            if not options:
                spent = sum(map(cpu_s, pids)) - before
                gigabytes = rates[mode] * 1e6 / 8 * (seconds + 1) / 1e9
    return rates, spent / gigabytes


def run(context: Context) -> list[Figure]:
    seconds, rounds = context.count(SECONDS, QUICK_SECONDS), context.count(ROUNDS, QUICK_ROUNDS)
    found: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in SITES}
    cpu: dict[str, list[float]] = {name: [] for name in SITES}
    with network.standing() as topology:
        for number in range(rounds):
            for name, site in SITES.items():
                context.step(f"{name}, {number + 1} of {rounds}")
                directory = context.directory / f"{name}-{number}".replace(" ", "-")
                directory.mkdir()
                rates, spent = _measure(topology, directory, site, seconds)
                cpu[name].append(spent)
                for mode, rate in rates.items():
                    found[name][mode].append(rate)
    return _figures(found, cpu)


def _figures(found: dict[str, dict[str, list[float]]], cpu: dict[str, list[float]]) -> list[Figure]:
    figures = []
    for mode in MODES:
        unit = "kpps" if mode.startswith("UDP") else "Mbit/s"
        theirs = statistics.median(found[THEIRS][mode])
        for name in (OURS, MIXED):
            value = statistics.median(found[name][mode])
            figures.append(Figure(f"{mode}: {name}", value, unit, THEIRS, theirs))
    theirs = statistics.median(cpu[THEIRS])
    figures += [
        Figure(f"CPU of both gateways: {name}", statistics.median(cpu[name]), "s/GB", THEIRS, theirs)
        for name in (OURS, MIXED)
    ]
    return figures


TOPIC = Topic(
    "throughput",
    "userspace ESP between two sites (AES-256-GCM in UDP, iperf3)",
    run,
    lambda quick: len(SITES) * (QUICK_ROUNDS if quick else ROUNDS),
    _missing,
)
