"""What traffic costs the synch channel, beyond what one machine can send: the counter leases with a simulated clock.

The data plane's own tables decide what is asked for, the cluster's own frames carry it; packets are numbers, without
ciphers and sockets.  The gateway has a turn each millisecond, and the backup's acknowledgement comes one turn later.
Frames and octets are those of both members, as in ``bench.channel``.
"""

from __future__ import annotations

from typing import NamedTuple

from bench import clients
from bench.figures import Context, Figure, Goal, Topic
from bench.pairs import child_spi, make_sas
from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.frames import Ack, encode_frame
from ipsecha.ipsec.leases import CHANNEL_BUDGET, INBOUND_HORIZON_S, OUTBOUND_HORIZON_S
from ipsecha.ipsec.live import LiveSa
from ipsecha.ipsec.sad import Sad
from ipsecha.model.leases import Leasing

RATES = (10, 1000, 100_000)
MANY, QUICK_MANY, MANY_RATE = 10_000, 4000, 10
WARM_S, SECONDS, QUICK_SECONDS = 3.0, 6.0, 2.0
TURN_S = 0.001
LONGER = 5
"""Slow SAs ask for more every ten seconds or so, outbound: they are watched for longer."""

REVIEW_TURNS = 50
LENGTH = 4
"""Octets of a frame's length."""
FLAT = 2.0
RENEWALS = 2
"""Of a lease in a horizon: at half."""
OVERSHOOT = 1.1
"""The budget steers leases that it sees run out; it is no gate."""
EPOCH = 0x29CDB7FE290


class Load(NamedTuple):
    """Of one second, both ways; ``held``: packets that had to wait for an acknowledgement."""

    frames: float
    octets: float
    entries: float
    held: int


class _Silent:
    """Hears what the data plane has to tell, and does nothing about it."""

    def __getattr__(self, name: str) -> object:
        return lambda *arguments: None


class _Channel:
    """The owner's tables, and a backup that acknowledges a turn later."""

    def __init__(self, count: int) -> None:
        self.sad = Sad(clients.responder_policy(), _Silent(), lambda local, remote: 1500)  # type: ignore[arg-type]
        for sa in make_sas(count, 0.0):
            for child in sa.children:
                self.sad.install(sa, child)
        self.sad.activate(1, 0)
        self.sad.set_leasing(Leasing.LEASED)
        adopted = [self.sad.adopt(child_spi(number)) for number in range(count)]
        self.lives = [live for live in adopted if live is not None]
        self._log = CommitLog()
        self._log.backup = BackupState.IN_SYNC
        self._to_acknowledge = 0
        self.clear()

    def clear(self) -> None:
        self.frames = self.octets = self.entries = self.held = 0

    def _sent(self, encoded: bytes) -> None:
        self.frames += 1
        self.octets += len(encoded) + LENGTH

    def turn(self, now: float) -> None:
        if self._to_acknowledge:
            self._sent(encode_frame(Ack(EPOCH, self._to_acknowledge)))
            self.sad.grant(self._log.acknowledge(self._to_acknowledge))
            self._to_acknowledge = 0
        entries = self.sad.lease_requests(now)
        if entries:
            self._sent(encode_frame(self._log.extend(EPOCH, entries, now)))
            self.entries += len(entries)
            self._to_acknowledge = self._log.number

    def send(self, live: LiveSa, now: float) -> None:
        """One packet, as ``ipsec.outbound`` has it."""
        if live.next_out > live.out_lease.mark and not self.sad.may_send(live, now):
            self.held += 1
            return
        live.next_out += 1

    def receive(self, live: LiveSa, number: int, now: float) -> bool:
        """One packet, as ``ipsec.inbound`` has it; whether it is delivered."""
        if number > live.in_lease.mark and not self.sad.may_deliver(live, number, now):
            self.held += 1
            return False
        live.window.accept(number)
        return True


def load(count: int, rate: int, seconds: float, *, outbound: bool) -> Load:
    """``count`` child SAs with ``rate`` packets per second each, not all at the same moment."""
    channel = _Channel(count)
    lives, sad = channel.lives, channel.sad
    numbers = [live.window.top for live in lives]
    per_turn = count * rate * TURN_S
    due, place = 0.0, 0
    for turn in range(int((WARM_S + seconds) / TURN_S)):
        now = 1.0 + turn * TURN_S
        if turn == int(WARM_S / TURN_S):
            channel.clear()
        if not turn % REVIEW_TURNS:
            sad.review(now)
        due += per_turn
        while due >= 1.0:
            due -= 1.0
            live = lives[place]
            if outbound:
                channel.send(live, now)
            elif channel.receive(live, numbers[place] + 1, now):
                numbers[place] += 1
            place = place + 1 if place + 1 < count else 0
        channel.turn(now)
    return Load(channel.frames / seconds, channel.octets / seconds, channel.entries / seconds, channel.held)


def run(context: Context) -> list[Figure]:
    seconds, many = context.count(SECONDS, QUICK_SECONDS), context.count(MANY, QUICK_MANY)
    figures: list[Figure] = []
    for outbound, way in ((True, "outbound"), (False, "inbound")):
        found: dict[int, Load] = {}
        for rate in RATES:
            context.step(f"{rate:,} packets per second {way}")
            longer = LONGER if rate == RATES[0] else 1
            found[rate] = load(1, rate, longer * seconds, outbound=outbound)
        figures += _by_rate(found, outbound, way)
        context.step(f"{many:,} busy SAs {way}")
        busy = load(many, MANY_RATE, LONGER * seconds if outbound else seconds, outbound=outbound)
        name = f"{many:,} SAs, {MANY_RATE} packets/s each, {way}"
        figures += [
            Figure(name, busy.frames, "frames/s"),
            Figure(name, busy.octets, "B/s", note=f"{name}: {busy.held} packets waited"),
            Figure(name, busy.entries, "entries/s", "the budget", CHANNEL_BUDGET, Goal(OVERSHOOT)),
        ]
    return figures


def _by_rate(found: dict[int, Load], outbound: bool, way: str) -> list[Figure]:
    """The fastest SA beside the slower ones, and beside what no SA asks for more often, however fast: twice a horizon.

    The slowest one is cheaper, since a lease is never smaller than its minimum.  Inbound, where that is one packet, the
    fastest may cost twice as much; outbound, where it is hundreds, a slow SA costs next to nothing.
    """
    slowest, middle, fastest = RATES
    figures: list[Figure] = []
    for rate, load in found.items():
        name = f"{rate:,} packets/s {way}"
        frames = Figure(name, load.frames, "frames/s")
        octets = Figure(name, load.octets, "B/s", note=f"{name}: {load.held} packets waited")
        if rate == fastest:
            frames.reference, frames.reference_value = f"{middle:,} packets/s {way}", found[middle].frames
            frames.goal = Goal(FLAT)
            octets.reference, octets.reference_value = f"{slowest:,} packets/s {way}", found[slowest].octets
            octets.goal = None if outbound else Goal(OVERSHOOT * FLAT)
        figures += [frames, octets]
    bound = RENEWALS / (OUTBOUND_HORIZON_S if outbound else INBOUND_HORIZON_S)
    name = f"{fastest:,} packets/s {way}"
    return [*figures, Figure(name, found[fastest].entries, "entries/s", "the bound", bound, Goal(OVERSHOOT))]


def _steps(quick: bool) -> int:
    return 2 * (len(RATES) + 1)


TOPIC = Topic("busy", "traffic on the synch channel, by a simulated clock", run, _steps)
