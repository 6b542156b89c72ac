"""Two members in one deterministic world: a seeded network, clocks that disagree, faults, and checkers.

Every run is a function of its seed.  Time is simulated; a failover costs milliseconds of real time.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any
from zlib import crc32

from cluster_checkers import Checkers, Link, Node, Violation
from cluster_gateway import MOVING, ModelGateway
from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import SNAPSHOT_PART, SNAPSHOT_WINDOW, CommitLog
from ipsecha.cluster.pair import PairMember, PairSettings, Role
from ipsecha.model.errors import ClusterError

PATHS = ("synch", "lan")
TCP_PATIENCE_S = 3.0
WALL_AT_START = 1_700_000_000.0
ACTIVE = Role.ACTIVE  # a member of an enumeration takes a while to look up


SIZES = ((2, 1), (2, 1), (SNAPSHOT_PART, SNAPSHOT_WINDOW))
"""Parts of a snapshot, and how many are under way: so that a few records are a long one; or the product's own."""


class World(Checkers):
    names: tuple[str, ...] = ("a", "b")
    settle_s = 4.0  # so long after the last fault everything must be well

    def __init__(
        self,
        seed: int,
        *,
        member: type[PairMember] = PairMember,
        gateway: type[ModelGateway] = ModelGateway,
        faults: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.member_type = member
        self.gateway_type = gateway
        self.settings = settings
        self.blocked: dict[tuple[Any, ...], bool] = {(path, to): False for path in PATHS for to in (0, 1)}
        self.beat_loss = 0.0
        self.delay_s = 0.001
        self.late_ticks_s = 0.002
        self.faults = list(faults)  # kinds that this run plays; none: a choice of all
        self.fault_until = 0.0  # a network fault or a pause was there until then
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._next_key = 0
        self.sizes = random.Random(f"sizes/{seed}").choice(SIZES)
        self._sa_limit = self.random.choice((1, 2, 6))
        self._latest: Link | None = None  # the connection that is up or being built
        self._dialling_until = 0.0
        self._peer_numbers: dict[int, int] = {}
        self.at(0.0, self._dial)

    # Time

    def at(self, delay: float, action: Callable[[], None]) -> None:
        self._order += 1
        heappush(self._events, (self.time + delay, self._order, action))

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        events = self._events
        while events and events[0][0] <= end:
            self.time, _, action = heappop(events)
            action()
        self.time = end

    def jitter(self, scale: float) -> float:
        return scale * (0.2 + self.random.random())

    # Members

    def start(self, index: int) -> None:
        node = self.nodes[index]
        for link in self._links_of(index):
            self.break_link(link)
        node.begin(self.random.uniform(-3, 3))
        settings = PairSettings("test", self.names, index, **self.settings)
        node.member = self.member_type(settings, self.random.randbytes)
        for log in self._logs_of(node.member):
            log.part, log.window = self.sizes
            log.moving = MOVING
        node.gateway = self.gateway_type(f"{self.names[index]}{node.boot}", node.member, self, self._ring(node))
        node.gateway.now = lambda: self.time + node.skew
        self.note(f"start {node.gateway.name}")
        node.member.start(self.time + node.skew, WALL_AT_START + self.time)
        self._carry_out(node)
        self._arm(node, node.boot)

    def _logs_of(self, member: Any) -> list[CommitLog]:
        return [member.log]

    def _ring(self, node: Node) -> dict[type, Callable[[Any], None]]:
        """What becomes of the effects that concern the network and the clock."""
        return {
            fx.SendFrame: lambda effect: self._send_frame(node, effect.data),
            fx.SendBeat: lambda effect: self._send_beat(node, effect.data),
            fx.ResetChannel: lambda effect: self._reset(node, node.link),
            fx.ClockOffset: lambda effect: self._shift_clock(node, effect.seconds),
            fx.Forwarded: lambda effect: None,
        }

    def _arm(self, node: Node, boot: int) -> None:
        due = node.member.next_timer() - node.skew - self.time
        self.at(max(due, 0.0) + self.jitter(self.late_ticks_s), lambda: self._tick(node, boot))

    def _tick(self, node: Node, boot: int) -> None:
        if not node.alive or node.boot != boot:
            return
        if node.paused_until > self.time:
            self.at(node.paused_until - self.time, lambda: self._tick(node, boot))
            return
        node.member.links(node.links_up, node.health)
        node.member.handle_timer(self.time + node.skew)
        self._carry_out(node)
        if node.alive:
            self._arm(node, boot)

    def _tell(self, node: Node, boot: int, action: Callable[[], None]) -> None:
        """Call into a member, later if it is paused, not at all if that process is gone."""
        if not node.alive or node.boot != boot:
            return
        if node.paused_until > self.time or node.backlog:
            if not node.backlog:
                self._wake(node, boot)
            node.backlog.append(action)
            return
        self._act(node, boot, action)

    def _wake(self, node: Node, boot: int) -> None:
        """A member that slept finds everything in the order in which it came."""
        if node.boot != boot:
            return
        if node.paused_until > self.time:
            self.at(node.paused_until - self.time, lambda: self._wake(node, boot))
            return
        backlog, node.backlog = node.backlog, []
        for action in backlog:
            if node.alive and node.boot == boot:
                self._act(node, boot, action)

    def _act(self, node: Node, boot: int, action: Callable[[], None]) -> None:
        action()
        if self.random.random() < 0.7:
            self._carry_out(node)
        else:  # the effects of several inputs may be carried out together, a little later
            self.at(self.jitter(0.001), lambda: self._tell(node, boot, lambda: None))

    def _carry_out(self, node: Node) -> None:
        if not node.alive:
            return
        member = node.member
        while effects := member.take_effects():
            actions = node.gateway.actions
            for effect in effects:
                if node.crash_after is not None:
                    node.crash_after -= 1
                    if node.crash_after < 0:
                        self.crash(node.index)
                        return
                actions[type(effect)](effect)
        if member.epoch > node.highest_epoch:
            node.highest_epoch = member.epoch
        if node.gateway.active != (member.role is ACTIVE):
            raise Violation("stuck", f"{node.gateway.name} is {member.role} but its gateway is not")

    def crash(self, index: int, host: bool = False) -> None:
        node = self.nodes[index]
        self.note(f"crash {node.gateway.name} ({node.member.role.value}){' with its host' if host else ''}")
        node.alive = False
        node.host_up = not host
        node.link = None
        links = self._links_of(index)
        self.at(TCP_PATIENCE_S if host else 0.0, lambda: [self.break_link(link) for link in links])

    def pause(self, index: int, seconds: float) -> None:
        self.note(f"pause {self.names[index]} {seconds:.2f}")
        node = self.nodes[index]
        node.paused_until = max(node.paused_until, self.time + seconds)
        self.faulty(seconds)

    def faulty(self, seconds: float = 0.0) -> None:
        self.fault_until = max(self.fault_until, self.time + seconds)

    @property
    def at_peace(self) -> bool:
        """Nothing disturbs the network or the clocks, and has not for a while."""
        return not self.disturbed and self.fault_until + 2.0 < self.time

    @property
    def disturbed(self) -> bool:
        slow = self.beat_loss or self.delay_s > 0.001 or self.late_ticks_s > 0.002
        return bool(slow) or any(self.blocked.values())

    @property
    def awake_at(self) -> float:
        """From then on nobody is paused."""
        return max(node.paused_until if node.alive else 0.0 for node in self.nodes)

    def ask(self, index: int, question: Callable[[PairMember, float], object]) -> bool:
        """An operator's command; False where the member refuses it."""
        node = self.nodes[index]
        if not node.alive or node.paused_until > self.time:
            return False
        try:
            question(node.member, self.time + node.skew)
        except ClusterError:
            return False
        finally:
            self._carry_out(node)
        return True

    def _shift_clock(self, node: Node, seconds: float) -> None:
        node.skew += seconds

    # Network

    def block(self, *way: Any, blocked: bool = True) -> None:
        """``way``: one of ``self.blocked``, a path and who receives there."""
        self.faulty()
        self.blocked[way] = blocked
        if way[0] == "synch" and not blocked:
            for link in {id(link): link for node in self.nodes for link in node.channels()}.values():
                self._unstall(link)

    def ways_of(self, index: int) -> list[tuple[Any, ...]]:
        """Those that end or begin there."""
        return list(self.blocked)

    def heal(self) -> None:
        """Everything works again; pauses run out by themselves."""
        self.note("heal")
        self.beat_loss, self.delay_s, self.late_ticks_s = 0.0, 0.001, 0.002
        self.faulty()
        for way in self.blocked:
            self.block(*way, blocked=False)
        for node in self.nodes:
            node.links_up, node.health = True, 2
            node.crash_after = None

    @property
    def synch_is_cut(self) -> bool:
        return self.blocked["synch", 0] or self.blocked["synch", 1]

    def is_cut(self, ends: tuple[int, int]) -> bool:
        return self.synch_is_cut

    def _links_of(self, index: int) -> list[Link]:
        """The latest of each cable that ends there."""
        return [self._latest] if self._latest is not None else []

    def _dial(self) -> None:
        """Both members look for each other while they have no connection."""
        self.at(self.jitter(0.02), self._dial)
        a, b = self.nodes
        if a.alive and b.alive:
            apart = self._latest is None or self._latest.broken
            if apart and self._dialling_until <= self.time and not self.synch_is_cut:
                link = self._latest = self._connect(a, b)
                self._dialling_until = max(link.last.values())
            return
        if self.synch_is_cut or not (a.host_up and b.host_up):
            return
        for node in self.nodes:
            if node.alive and node.link is None:
                self._tell_soon(node, lambda node=node: self._refused(node))

    def _refused(self, node: Node) -> None:
        """It may be late: the partner may have come up meanwhile."""
        node.member.channel_down(True, self.time + node.skew)

    def _tell_soon(self, node: Node, action: Callable[[], None], delay: float = 0.0) -> None:
        boot = node.boot
        self.at(delay or self.jitter(self.delay_s), lambda: self._tell(node, boot, action))

    def _connect(self, a: Node, b: Node) -> Link:
        """Both get to know of it in their own time."""
        link = Link((a.index, b.index))
        for node in (a, b):
            delay = self.jitter(self.delay_s)
            link.last[node.index] = self.time + delay
            self._tell_soon(node, lambda node=node: self._link_up(node, link), delay)
        return link

    def _link_up(self, node: Node, link: Link) -> None:
        if link.broken:
            return
        if node.link is not None:
            node.member.channel_down(False, self.time + node.skew)
        node.link = link
        node.member.channel_up(self.time + node.skew)

    def break_link(self, link: Link | None) -> None:
        """Both ends notice in their own time; what was under way arrives or not, for each direction alone."""
        if link is None or link.broken:
            return
        link.broken = True
        for node in (self.nodes[end] for end in link.ends):
            link.cut_at[node.index] = self.time + self.jitter(self.delay_s) * self.random.randint(0, 1)
            patience = TCP_PATIENCE_S if self.is_cut(link.ends) else 0.0
            if node.alive:
                delay = self.jitter(0.01) + self.random.randint(0, 1) * patience
                self._tell_soon(node, lambda node=node: self._link_down(node, link), delay)

    def _reset(self, node: Node, link: Link | None) -> None:
        """A member hangs up.  While the cable is cut only its own end knows."""
        if link is None or not self.is_cut(link.ends):
            self.break_link(link)
            return
        link.broken = True
        link.cut_at = {end: min(cut, self.time) for end, cut in link.cut_at.items()}
        self._tell_soon(node, lambda: self._link_down(node, link), self.jitter(0.001))

    def _link_down(self, node: Node, link: Link) -> None:
        if node.link is link:
            node.link = None
            node.member.channel_down(False, self.time + node.skew)

    def _send_frame(self, node: Node, data: bytes) -> None:
        self._send_on(node.link, 1 - node.index, data)

    def _send_on(self, link: Link | None, receiver: int, data: bytes) -> None:
        self.frames += 1
        self.trace = crc32(data, self.trace)
        if link is None:
            return
        if link.broken:
            if not self.is_cut(link.ends):  # the other host says that it knows of no such connection
                end = self.nodes[sum(link.ends) - receiver]
                self._tell_soon(end, lambda: self._link_down(end, link), self.delay_s)
            return
        arrival = max(link.last[receiver], self.time + self.jitter(self.delay_s))
        link.last[receiver] = arrival
        self.at(arrival - self.time, lambda: self._arrive(link, receiver, data))

    def _arrive(self, link: Link, receiver: int, data: bytes) -> None:
        if self.is_cut(link.ends) or link.stalled:
            if not link.stalled:
                link.stalled_since = self.time
            link.stalled.append((receiver, data))
            return
        if self.time <= link.cut_at[receiver]:
            node = self.nodes[receiver]
            self._tell(node, node.boot, lambda: self._receive(node, link, data))

    def _unstall(self, link: Link) -> None:
        if self.is_cut(link.ends) or not link.stalled:
            return
        if self.time - link.stalled_since > TCP_PATIENCE_S:
            self.break_link(link)
        stalled, link.stalled = link.stalled, []
        for receiver, data in stalled:
            self._arrive(link, receiver, data)

    def _receive(self, node: Node, link: Link, data: bytes) -> None:
        if node.link is link:
            self._take_in(node, data, node.member.receive_frame)

    def _take_in(self, node: Node, data: bytes, receive: Callable[[bytes, float], None]) -> None:
        before = len(node.member._effects)
        receive(data, self.time + node.skew)
        for effect in node.member._effects[before:]:
            if isinstance(effect, fx.Apply):
                frame = frames.decode_frame(data)
                assert isinstance(frame, frames.Commit)
                self._written(node, frame.epoch)

    def _send_beat(self, node: Node, data: bytes) -> None:
        receiver = self.nodes[1 - node.index]
        for path in PATHS:
            if self.random.random() >= self.beat_loss:
                delay = self.jitter(self.delay_s) * self.random.choice((1, 1, 1, 20))
                self.at(delay, lambda path=path: self._beat_arrives(receiver, path, data))

    def _beat_arrives(self, node: Node, path: str, data: bytes) -> None:
        if not self.blocked[path, node.index] and node.links_up:
            self._tell(node, node.boot, lambda: node.member.beat_received(path, data, self.time + node.skew))

    # Traffic

    def traffic(self) -> None:
        """A little of everything, through whoever believes to be the owner; the attacker replays to everybody."""
        owners = [node for node in self.nodes if self.serves(node)]
        if not owners:
            return
        node = self.random.choice(owners)
        gateway = node.gateway
        if not gateway.table or (len(gateway.table) < self._sa_limit and self.random.random() < 0.3):
            self._next_key += 1
            gateway.create(self._next_key)
        elif self.random.random() < 0.03:
            gateway.withdraw(self.random.choice(list(gateway.table)))
        else:
            self._use(gateway, self.random.choice(list(gateway.table)), owners)
        self._carry_out(node)

    def serves(self, node: Node) -> bool:
        return node.alive and node.gateway.active and node.paused_until <= self.time

    def _use(self, gateway: ModelGateway, key: int, owners: list[Node]) -> None:
        if self.random.random() < 0.4:
            gateway.message(key)
        for _ in range(self.random.randint(0, self.random.choice((3, 10, 40)))):
            gateway.send(key)
        for _ in range(self.random.randint(0, self.random.choice((3, 10, 20)))):
            number = self._peer_numbers[key] = self._peer_numbers.get(key, 0) + 1
            gateway.receive(key, number)
        for node in owners:
            if key in node.gateway.table and self.serves(node):
                node.gateway.receive(key, self.random.randint(1, self._peer_numbers.get(key, 0) + 1))
                self._carry_out(node)
