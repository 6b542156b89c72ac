"""The daemon: builds one member from its configuration, runs it, and ends it in an orderly way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from ipsecha.cluster.pair import PairMember, PairSettings
from ipsecha.cluster.seating import SeatedMember
from ipsecha.dataplane.userspace.loopback import LoopbackDevice
from ipsecha.dataplane.userspace.netlink import NetlinkThread
from ipsecha.dataplane.userspace.plane import PlaneConfig, UserspacePlane
from ipsecha.gateway.beats import Beats
from ipsecha.gateway.channel import ChannelEvents, SynchChannel
from ipsecha.gateway.clock import ClusterClock
from ipsecha.gateway.commands import Commands
from ipsecha.gateway.config import (
    Acks,
    Alone,
    ClusterConfig,
    ClusterLinkConfig,
    CommitMode,
    LoadedConfig,
    MemberConfig,
    load_member,
)
from ipsecha.gateway.control import ControlServer
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.garbage import keep_collections_short
from ipsecha.gateway.leaving import hand_over
from ipsecha.gateway.mirrors import MirrorSide, beat_paths, channel_config, mirror_side, refused_peer
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.policy_digest import digest_of
from ipsecha.gateway.saved_state import SavedStateDisk
from ipsecha.gateway.shared_addresses import AddressKeeper, KernelAddresses, NoAddresses, SharedAddress
from ipsecha.gateway.witness_link import WitnessConfig, WitnessLink
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.errors import IpsecHaError

EXIT_OK, EXIT_FAILURE, EXIT_CONFIGURATION = 0, 1, 2

log = logging.getLogger("ipsecha")


def run(config_path: str | Path) -> int:
    """Run one member until it is told to stop; returns the exit code.  Raises PolicyError for a wrong configuration."""
    config = load_member(config_path)
    _set_up_logging()
    for warning in config.warnings:
        log.warning("%s", warning)
    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(_serve(config))
    except (IpsecHaError, OSError) as error:
        log.error("%s", error)
        return EXIT_FAILURE
    return EXIT_OK


def _set_up_logging() -> None:
    """One line per event.  Records do without what no line shows (see "Optimization" in the logging documentation):
    that halves the price of a line, and each handshake has one."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None


def _new_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


async def _serve(config: LoadedConfig) -> None:
    loop = asyncio.get_running_loop()
    daemon = Daemon(config, loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, daemon.stop)
    try:
        await daemon.start()
        await daemon.stopped.wait()
        await daemon.leave()
    finally:
        await daemon.close()


class Daemon:
    """Everything that one process holds."""

    def __init__(self, config: LoadedConfig, loop: asyncio.AbstractEventLoop) -> None:
        """Raises DataPlaneError or OSError where devices or sockets cannot be made."""
        self.config = config
        self.loop = loop
        self.stopped = asyncio.Event()
        clock = ClusterClock()
        ports = config.member.device.port, config.member.device.nat_port
        endpoint = IkeEndpoint(config.policy, config.credentials, os.urandom, wall_clock=time.time, ports=ports)
        self.gateway = Gateway(loop, clock, endpoint)
        loop.set_exception_handler(self.gateway.faults.from_loop)
        self.gateway.plane = _plane(config, self.gateway)
        self.side: PairSide | None = None
        if config.cluster is not None and config.member.cluster is not None:
            self.side = _cluster_side(self.gateway, config.cluster, config.member)
            self.gateway.cluster = self.side
            self.side.member.has_read(digest_of(config))
            if config.cluster.commit is CommitMode.LAZY:
                self.gateway.commit_lazily()
        self._disk: SavedStateDisk | None = None
        if self.side is not None and config.member.persistence is not None:
            self._disk = SavedStateDisk(self.side, config.member.persistence, loop)
        control = config.member.control
        commands = Commands(self.gateway, self.side, config, self.stop)
        self._control = ControlServer(control.socket, commands, group=control.group)

    async def start(self) -> None:
        """Open everything.  Raises OSError, DataPlaneError or ControlError with what is in the way."""
        keep_collections_short()
        await self._control.start()
        self.gateway.plane.attach(self.loop, self.gateway.read)
        if self.side is None:
            self.gateway.serve_alone(int(time.time()) & 0xFFFFFF)
            log.info("%s: serving alone, without a cluster", self.config.member.name)
            return
        self.side.beats.start(self.loop)
        if self._disk is not None:
            self._disk.restore()
        self.side.start(self.gateway.clock.now(), time.time())
        await self.side.channel.start()
        if self.side.witness is not None:
            self.side.witness.start()
        self.gateway.wake()

    def stop(self) -> None:
        self.stopped.set()

    async def leave(self) -> None:
        """Hand the SAs over if somebody can take them, else say that they are free."""
        if self.side is not None:
            await hand_over(self.side.member, self.gateway)

    async def close(self) -> None:
        """Give everything back, in any state; where one thing fails, the others follow all the same."""
        self.gateway.stop()
        async with contextlib.AsyncExitStack() as last_first:
            last_first.push_async_callback(self._control.stop)
            last_first.callback(self.gateway.plane.close)
            if self.side is not None:
                last_first.callback(self.side.addresses.close)
                last_first.callback(self.side.beats.stop, self.loop)
                last_first.push_async_callback(self.side.channel.stop)
                if self.side.witness is not None:
                    last_first.push_async_callback(self.side.witness.stop)
                if self._disk is not None:
                    last_first.callback(self._disk.close)
                last_first.callback(self.side.end)


def _plane(config: LoadedConfig, gateway: Gateway) -> UserspacePlane:
    device, cluster = config.member.device, config.cluster
    unprivileged = device.inner is not None
    settings = PlaneConfig(
        interface=device.tun,
        ike_port=device.port,
        nat_port=device.nat_port,
        raw=not unprivileged,
        routes=not unprivileged,
        mark=0 if unprivileged else PlaneConfig().mark,
        horizon_s=cluster.horizon_s if cluster is not None else PlaneConfig().horizon_s,
        channel_budget=cluster.lease_budget if cluster is not None else PlaneConfig().channel_budget,
    )
    inner = LoopbackDevice(device.inner.local, device.inner.remote) if device.inner is not None else None
    return UserspacePlane(config.policy, gateway, gateway.on_ike, config=settings, inner=inner, clock=gateway.clock.now)


def _cluster_side(gateway: Gateway, cluster: ClusterConfig, member: MemberConfig) -> PairSide:
    link = member.cluster
    assert link is not None
    settings = PairSettings(
        cluster=cluster.name,
        members=cluster.members,
        index=cluster.members.index(member.name),
        heartbeat_s=cluster.heartbeat_s,
        missed_beats=cluster.missed_beats,
        start_wait_s=cluster.start_wait_s,
        stop_when_alone=cluster.alone is Alone.STOP,
        witness=cluster.witness is not None,
        acks_all=cluster.acks is Acks.ALL,
    )
    addresses = _addresses(cluster, member)
    side: PairSide
    if len(cluster.members) == 2:
        side = _pair_side(PairSide(gateway, PairMember(settings, os.urandom), addresses), link)
    else:
        side = mirror_side(MirrorSide(gateway, SeatedMember(settings, os.urandom), addresses), link)
    if cluster.witness is not None:
        papers = str(link.certificate), str(link.private_key), str(link.ca)
        side.witness = WitnessLink(WitnessConfig(cluster.witness, *papers), side.witness_events())
    return side


def _pair_side(side: PairSide, link: ClusterLinkConfig) -> PairSide:
    settings = side.member.settings
    partner = settings.members[1 - settings.index]
    events = ChannelEvents(side.channel_up, side.channel_down, side.frame_received, refused_peer)
    side.channel = SynchChannel(channel_config(link, partner, dials=settings.index == 1), events)
    side.beats = Beats((path, partial(side.beat_received, path.name)) for path in beat_paths(link, partner))
    return side


def _addresses(cluster: ClusterConfig, member: MemberConfig) -> AddressKeeper:
    """Without a TUN device the member runs on loopback, where every address is there already."""
    assert member.cluster is not None
    if member.device.inner is not None:
        return NoAddresses()
    shared = tuple(SharedAddress(one.address, one.prefix_length, member.links[one.link]) for one in cluster.addresses)
    watched = {one.interface for one in shared} | _interfaces_of(member.cluster.listen[0])
    return KernelAddresses(shared, tuple(sorted(watched)))


def _interfaces_of(address: str) -> set[str]:
    """The interface that bears a local address: the cluster link's carrier counts as well."""
    thread = NetlinkThread()
    try:
        return thread.run(
            lambda netlink: {
                netlink.get_links(found["index"])[0].get_attr("IFLA_IFNAME")
                for found in netlink.get_addr()
                if address in (found.get_attr("IFA_LOCAL"), found.get_attr("IFA_ADDRESS"))
            }
        )
    finally:
        thread.close()
