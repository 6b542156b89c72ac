"""The userspace plane between real hosts: two gateways with static keys, a host behind each.

``h1 -- g1 == g2 -- h2``; everything between the hosts goes through one child SA.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipsecha.lab.namespaces import Topology, available

pytestmark = pytest.mark.root

PROCESS = Path(__file__).with_name("plane_process.py")
GCM = [3, 20, 128, 0, 0, False]
GCM_ESN = [3, 20, 256, 0, 0, True]
CHACHA = [3, 28, 0, 0, 0, False]
CBC = [3, 12, 256, 12, 0, False]
NULL = [3, 11, 0, 14, 0, True]
AH_SHA = [2, 0, 0, 12, 0, False]
AH_GMAC_ESN = [2, 0, 0, 9, 0, True]
HOST = {4: ("10.1.0.2", "10.2.0.2"), 6: ("2001:db8:1::2", "2001:db8:2::2")}
OUTER = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8:9::1", "2001:db8:9::2")}


@pytest.fixture(scope="module")
def network() -> Iterator[Topology]:
    reason = available()
    if reason or shutil.which("ping") is None:
        pytest.skip(reason or "ping is missing")
    with Topology() as topology:
        for role in ("h1", "g1", "g2", "h2"):
            topology.namespace(role)
        topology.cable("g1", "wan", "g2", "wan")
        topology.address("g1", "wan", "192.0.2.1/24", "2001:db8:9::1/64")
        topology.address("g2", "wan", "192.0.2.2/24", "2001:db8:9::2/64")
        for number in (1, 2):
            topology.cable(f"h{number}", "lan", f"g{number}", "lan")
            topology.address(f"h{number}", "lan", f"10.{number}.0.2/24", f"2001:db8:{number}::2/64")
            topology.address(f"g{number}", "lan", f"10.{number}.0.1/24", f"2001:db8:{number}::1/64")
            topology.route(f"h{number}", "default", f"10.{number}.0.1")
            topology.route(f"h{number}", "default", f"2001:db8:{number}::1")
        yield topology


class Gateway:
    """A plane process in one namespace."""

    def __init__(self, topology: Topology, role: str, what: dict[str, Any]) -> None:
        command = topology[role].command([sys.executable, str(PROCESS), json.dumps(what)])
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"

    def ask(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)


class Tunnel:
    """Two gateways with one child SA between them."""

    def __init__(self, network: Topology, outer: int, encapsulate: bool, suite: list[Any], **more: Any) -> None:
        self.network = network
        self.gateways: list[Gateway] = []
        for role in ("h1", "h2"):  # hosts remember path MTUs
            network[role].run("ip", "-4", "route", "flush", "cache", check=False)
            network[role].run("ip", "-6", "route", "flush", "cache", check=False)
        inside = [["10.1.0.0/16", "2001:db8:1::/48"], ["10.2.0.0/16", "2001:db8:2::/48"]]
        inside[1] = more.pop("remote_ts", inside[1])
        for number in (0, 1):
            what = {
                "interface": "ipsecha0",
                "first": number == 0,
                "local": OUTER[outer][number],
                "remote": OUTER[outer][1 - number],
                "encapsulate": encapsulate,
                "suite": suite,
                "local_ts": inside[number],
                "remote_ts": inside[1 - number],
                **more,
            }
            self.gateways.append(Gateway(network, f"g{number + 1}", what))

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *_: object) -> None:
        for gateway in self.gateways:
            gateway.close()

    def ping(self, inner: int, size: int = 56, *options: str) -> subprocess.CompletedProcess[str]:
        argv = ["ping", "-n", "-c", "3", "-i", "0.05", "-W", "2", "-s", str(size), *options, HOST[inner][1]]
        return self.network["h1"].run(*argv, check=False)

    def answered(self, inner: int, size: int = 56, *options: str) -> bool:
        done = self.ping(inner, size, *options)
        assert done.returncode in (0, 1), done.stderr
        return " 0% packet loss" in done.stdout


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("encapsulate", [True, False])
def test_ping_both_families_in_both(network: Topology, outer: int, encapsulate: bool) -> None:
    with Tunnel(network, outer, encapsulate, GCM) as tunnel:
        for inner in (4, 6):
            assert tunnel.answered(inner)
        counted = tunnel.gateways[0].ask()
        assert counted["traffic"]["packets_out"] >= 6
        assert counted["traffic"]["packets_in"] >= 6
        assert counted["traffic"]["integrity_failures"] == 0


@pytest.mark.parametrize("suite", [GCM_ESN, CHACHA, CBC, NULL])
def test_every_kind_of_transform(network: Topology, suite: list[Any]) -> None:
    with Tunnel(network, 4, True, suite) as tunnel:
        assert tunnel.answered(4, 1000)
        assert tunnel.answered(6, 1001)


@pytest.mark.parametrize("outer", [4, 6])
@pytest.mark.parametrize("suite", [AH_SHA, AH_GMAC_ESN])
def test_ah_as_protocol_51(network: Topology, outer: int, suite: list[Any]) -> None:
    """What the kernel makes of the outer header, identification and traffic class included, is what was
    authenticated; fragments of the outer packet would be put together again before."""
    with Tunnel(network, outer, False, suite, leasing="leased") as tunnel:
        for inner in (4, 6):
            assert tunnel.answered(inner)
            assert tunnel.answered(inner, 1200, "-Q", "0xb8")
        assert tunnel.answered(4, 6000, "-M", "dont")
        for gateway in tunnel.gateways:
            counted = gateway.ask()
            assert counted["traffic"]["packets_in"] >= 12
            assert counted["traffic"]["integrity_failures"] == 0
            assert counted["counters"]["malformed"] == 0
            assert counted["traffic"]["in_ceiling"] >= counted["traffic"]["in_number"]


@pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is missing")
@pytest.mark.parametrize("outer", [4, 6])
def test_tcp_bulk_by_ah(network: Topology, outer: int) -> None:
    """The room is computed exactly: nothing is too long for the path."""
    with Tunnel(network, outer, False, AH_SHA) as tunnel:
        assert transfer(network, 4, 1)["end"]["sum_received"]["bytes"] > 500_000
        assert tunnel.gateways[0].ask()["counters"]["too_big"] == 0
        assert tunnel.gateways[1].ask()["traffic"]["integrity_failures"] == 0


@pytest.mark.parametrize("inner", [4, 6])
def test_large_ping_with_df_learns_the_mtu_and_does_not_vanish(network: Topology, inner: int) -> None:
    """RFC 4301 section 8.2.1: the sender is told, and its next packets fit."""
    with Tunnel(network, 4, True, GCM) as tunnel:
        told = tunnel.ping(inner, 1440, "-M", "do")
        assert "1438" in told.stdout + told.stderr
        assert tunnel.answered(inner, 1300, "-M", "do")
        tunnel.ping(inner, 1440)  # the far host learns it from its answers
        assert tunnel.answered(inner, 1440)  # the hosts cut them now
        assert tunnel.answered(inner, 8000)


def test_large_ping_without_df_is_cut_before_encryption(network: Topology) -> None:
    with Tunnel(network, 4, True, GCM) as tunnel:
        assert tunnel.answered(4, 1472, "-M", "dont")
        assert tunnel.answered(4, 6000, "-M", "dont")
        assert tunnel.gateways[0].ask()["counters"]["fragmented"] > 0


@pytest.mark.parametrize("inner", [4, 6])
def test_policy_fragment_carries_what_must_not_be_cut(network: Topology, inner: int) -> None:
    with Tunnel(network, 4, False, GCM, too_big="fragment") as tunnel:
        assert tunnel.answered(inner, 1440, "-M", "do")
        assert tunnel.gateways[0].ask()["counters"]["too_big"] == 0


def test_narrow_path_in_the_middle(network: Topology) -> None:
    """The path's MTU as the route states it bounds what goes into the tunnel."""
    for role in ("g1", "g2"):
        network[role].ip("link set wan mtu 1320")
    try:
        with Tunnel(network, 4, True, GCM, too_big="fragment") as tunnel:
            assert tunnel.answered(4, 1400)
            assert tunnel.answered(6, 1200)
    finally:
        for role in ("g1", "g2"):
            network[role].ip("link set wan mtu 1500")


def transfer(network: Topology, inner: int, seconds: float) -> dict[str, Any]:
    server = subprocess.Popen(
        network["h2"].command(["iperf3", "-s", "-1", "-B", HOST[inner][1]]), stdout=subprocess.DEVNULL
    )
    try:
        for _ in range(50):
            if HOST[inner][1] in network["h2"].run("ss", "-ltn").stdout:
                break
            time.sleep(0.05)
        argv = ["iperf3", "-c", HOST[inner][1], "-t", str(seconds), "-J"]
        done = network["h1"].run(*argv, timeout_s=seconds + 30)
        result: dict[str, Any] = json.loads(done.stdout)
        return result
    finally:
        server.kill()
        server.wait()


@pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is missing")
@pytest.mark.parametrize(("inner", "outer", "encapsulate"), [(4, 4, True), (6, 4, True), (4, 6, False)])
def test_tcp_bulk(network: Topology, inner: int, outer: int, encapsulate: bool) -> None:
    """TCP gets its MSS from the clamped SYN: bulk flows without an ICMP error."""
    with Tunnel(network, outer, encapsulate, GCM) as tunnel:
        result = transfer(network, inner, 2)
        assert result["end"]["sum_received"]["bytes"] > 1_000_000
        counted = tunnel.gateways[0].ask()
        assert counted["counters"]["too_big"] == 0
        assert counted["traffic"]["replays"] == 0


@pytest.mark.skipif(shutil.which("iperf3") is None, reason="iperf3 is missing")
def test_tcp_bulk_on_leases(network: Topology) -> None:
    """With a backup that acknowledges within half a millisecond, nothing is lost and little is asked for."""
    with Tunnel(network, 4, True, GCM, leasing="leased") as tunnel:
        assert tunnel.answered(4)
        result = transfer(network, 4, 2)
        assert result["end"]["sum_received"]["bytes"] > 1_000_000
        for gateway in tunnel.gateways:
            counted = gateway.ask()
            assert counted["counters"]["hold_overflow"] == 0
            assert counted["traffic"]["held"] == 0
            assert counted["traffic"]["in_ceiling"] >= counted["traffic"]["in_number"]
            assert counted["traffic"]["out_ceiling"] >= counted["traffic"]["out_number"]
            assert counted["entries"] < counted["traffic"]["packets_in"] / 10


def test_everything_through_the_tunnel(network: Topology) -> None:
    """Remote 0.0.0.0/0: our own ESP bears the mark and escapes our own route."""
    with Tunnel(network, 4, True, GCM) as tunnel:
        tunnel.gateways[0].close()
        what = {
            "interface": "ipsecha0", "first": True, "local": OUTER[4][0], "remote": OUTER[4][1], "encapsulate": True,
            "suite": GCM, "local_ts": ["0.0.0.0/0"], "remote_ts": ["0.0.0.0/0"],
        }  # fmt: skip
        tunnel.gateways[0] = Gateway(network, "g1", what)
        # the LAN itself is a more specific route of the main table, which the rule comes before: the operator
        # bypasses it; here the answer's way back is what the test looks at
        network["g1"].ip("rule add pref 100 to 10.1.0.0/24 lookup main")
        try:
            assert tunnel.answered(4)
        finally:
            network["g1"].ip("rule del pref 100")


def test_nothing_is_left_behind(network: Topology) -> None:
    for role in ("g1", "g2"):
        assert "220" not in network[role].run("ip", "rule").stdout
        assert network[role].run("ip", "route", "show", "table", "220", check=False).stdout == ""
