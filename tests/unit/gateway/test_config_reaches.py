"""What ``[cluster]`` says reaches those who act on it: the daemon's IKE endpoint, data plane and cluster core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ipsecha.gateway.config import LoadedConfig, UdpInner, load_member
from ipsecha.gateway.daemon import Daemon
from ipsecha.ipsec.leases import CHANNEL_BUDGET, INBOUND_HORIZON_S
from ipsecha.model.policy import AfterFailover

POLICY = """\
[cluster]
name = "berlin"
members = ["alpha", "beta"]
{settings}

[[cluster.addresses]]
address = "192.0.2.10/24"
link = "outer"

[connections.paris]
remote = "203.0.113.7"
local_id = "berlin.example.net"
psk_file = "paris.psk"
children.lan = {{ local = "10.1.0.0/16", remote = "10.2.0.0/16" }}
"""
MEMBER = """\
name = "alpha"
policy = "reaching.toml"
control.socket = "control.sock"
device = { port = 5500, nat_port = 5501, inner = "udp:127.0.0.1:7001<->127.0.0.1:7002" }

[links]
outer = "lo"

[cluster]
listen = "127.0.0.1:4600"
peers.beta = "127.0.0.2:4600"
certificate = "alpha.crt"
private_key = "alpha.key"
ca = "ca.crt"
"""
Started = Callable[[str], Daemon]


@pytest.fixture
def daemon(secrets: Path) -> Iterator[Started]:
    """A member's daemon that is not started, with these keys in ``[cluster]``; its inner device has any port."""
    loop = asyncio.new_event_loop()
    made: list[Daemon] = []

    def with_settings(settings: str) -> Daemon:
        (secrets / "reaching.toml").write_text(POLICY.format(settings=settings))
        (secrets / "member.toml").write_text(MEMBER)
        made.append(Daemon(_at_any_port(load_member(secrets / "member.toml")), loop))
        return made[-1]

    yield with_settings
    for each in made:
        each.gateway.plane.close()
    loop.close()


def _at_any_port(config: LoadedConfig) -> LoadedConfig:
    device = msgspec.structs.replace(config.member.device, inner=UdpInner(("127.0.0.1", 0), ("127.0.0.1", 9)))
    return msgspec.structs.replace(config, member=msgspec.structs.replace(config.member, device=device))


def test_what_is_to_be_done_after_a_failover_reaches_the_endpoint(daemon: Started) -> None:
    endpoint = daemon("rekey_after_failover = true\nrekey_rate = 7.5").gateway.endpoint
    assert endpoint.policy.after_failover == AfterFailover(rekey_all=True, exchanges_per_s=7.5)


def test_after_a_failover_not_everything_is_rekeyed_by_default(daemon: Started) -> None:
    endpoint = daemon("").gateway.endpoint
    assert endpoint.policy.after_failover == AfterFailover(rekey_all=False, exchanges_per_s=20.0)


def test_sizes_of_leases_reach_the_data_plane(daemon: Started) -> None:
    plane = daemon('lease_budget = 5000\nhorizon = "250ms"').gateway.plane
    assert (plane._sad.budget.budget, plane._sad._horizon_s) == (5000, 0.25)


def test_sizes_of_leases_by_default(daemon: Started) -> None:
    plane = daemon("").gateway.plane
    assert (plane._sad.budget.budget, plane._sad._horizon_s) == (CHANNEL_BUDGET, INBOUND_HORIZON_S)


def test_heartbeats_reach_the_cluster_core(daemon: Started) -> None:
    side = daemon('heartbeat = "50ms"\nmissed_beats = 4\nstart_wait = "2s"').side
    assert side is not None
    settings = side.member.settings
    assert (settings.heartbeat_s, settings.missed_beats, settings.start_wait_s) == (0.05, 4, 2.0)
