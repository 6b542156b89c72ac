"""RFC 6311 one message at a time: a side of a ``Pair`` is a cluster whose backup misses updates when told to."""

from __future__ import annotations

from collections.abc import Sequence

from ike_failover import Backup
from ike_pair import LEFT_IP, RIGHT_IP, Packet, Pair, Side
from ike_steps import Steps, notifies
from ipsecha.ike import message_sync, window
from ipsecha.model.effects import RaiseOutbound
from ipsecha.model.numbers import ExchangeType, HeaderFlag, Notify, Payload
from ipsecha.model.policy import Connection
from ipsecha.model.records import ExchangeKind, IkeSa
from ipsecha.wire.payloads.counter_sync import MessageIdSync, build_message_id_sync, parse_message_id_sync
from ipsecha.wire.payloads.notify import build_notify

PORT = 500


class LossyBackup(Backup):
    """A backup that stops to hear of anything while ``cut``."""

    def __init__(self, pair: Pair, side: Side) -> None:
        self.cut = False
        super().__init__(pair, side)

    def _follow(self) -> list[Packet]:
        return self._collect() if self.cut else super()._follow()


class SyncSteps(Steps):
    """``a`` is the member of a cluster, ``b`` its peer; both have a backup of their own."""

    def __init__(self, a: str = "left", left: Connection | None = None, right: Connection | None = None) -> None:
        self.pair = Pair(left, right)
        self.backups = {side.name: LossyBackup(self.pair, side) for side in self.pair.sides}
        self.pair.establish()
        self.a, self.b = self.pair.sides if a == "left" else reversed(self.pair.sides)

    def backup(self, side: Side | None = None) -> LossyBackup:
        return self.backups[(side or self.a).name]

    def check(self, side: Side) -> None:
        """A liveness exchange by ``side``: one message ID more."""
        side.endpoint.check_liveness(side.sa.local_spi, self.now)
        self.pair.run()

    def fail_over(self, side: Side | None = None) -> None:
        """The owner is gone; updates reach the new one's backup again."""
        backup = self.backup(side)
        self.take()
        backup.take_over()
        backup.cut = False
        self.take()

    def ask(
        self, side: Side | None = None, *, message_ids: bool = True, delta: int = 0, sa: IkeSa | None = None
    ) -> list[Packet]:
        """What the new owner sends to synchronise its only IKE SA, or ``sa``."""
        member = side or self.a

        def start() -> None:
            message_sync.start_sync(member.endpoint, sa or member.sa, self.now, message_ids, delta)
            member.endpoint.end_step()

        return self.do(start)

    def packet(self, side: Side, data: bytes) -> Packet:
        """``data`` on its way from ``side``."""
        near, far = (LEFT_IP, RIGHT_IP) if side is self.pair.left else (RIGHT_IP, LEFT_IP)
        return Packet(data, (near, PORT), (far, PORT))

    def forged(self, side: Side, payloads: Sequence[tuple[int, bytes]], *, response: bool = False) -> Packet:
        """An authentic message of ``side`` with message ID 0, as no state of ours would send it."""
        flags = HeaderFlag.RESPONSE if response else 0
        kind = ExchangeType.INFORMATIONAL
        (data,) = window.seal(side.endpoint, side.sa, kind, flags, 0, list(payloads))
        return self.packet(side, data)

    def forged_sync(self, side: Side, sync: MessageIdSync, *more: tuple[int, bytes], response: bool = False) -> Packet:
        return self.forged(side, [sync_payload(sync), *more], response=response)

    def sync_in(self, packet: Packet) -> MessageIdSync:
        """What a synchronisation message says."""
        (found,) = [notify for notify in notifies(self.open(packet)) if notify.type == Notify.IKEV2_MESSAGE_ID_SYNC]
        return parse_message_id_sync(found.data)

    def ids(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Next and expected message ID of both sides."""
        return tuple((side.sa.next_request_id, side.sa.expected_request_id) for side in (self.a, self.b))  # type: ignore[return-value]

    def agree(self) -> None:
        """Both sides see the same message IDs, and an exchange from each of them works."""
        for side in (self.a, self.b):
            (next_a, expected_a), (next_b, expected_b) = self.ids()
            assert (next_a, expected_a) == (expected_b, next_b)
            assert self.a.sa.exchange is None
            assert self.b.sa.exchange is None
            self.check(side)
            assert side.sa.exchange is None


def sync_payload(sync: MessageIdSync) -> tuple[int, bytes]:
    return Payload.NOTIFY, build_notify(Notify.IKEV2_MESSAGE_ID_SYNC, build_message_id_sync(sync))


def raised(side: Side) -> dict[int, int]:
    """By how much each child SA's outbound numbers were to be raised so far."""
    total: dict[int, int] = {}
    for effect in side.effects:
        if isinstance(effect, RaiseOutbound):
            total[effect.spi_in] = total.get(effect.spi_in, 0) + effect.delta
    return total


def synchronising(side: Side) -> bool:
    exchange = side.sa.exchange
    return exchange is not None and exchange.kind == ExchangeKind.MESSAGE_ID_SYNC


def check_ivs(pair: Pair) -> None:
    """No IV twice under one key (invariant I1), whoever has sent it: in whole messages and in fragments."""
    seen: dict[tuple[bytes, int, bytes], bytes] = {}
    for packet in pair.sent:
        data = packet.data
        if len(data) > 40 and data[16] == Payload.SK:
            key = (data[:16], data[19] & HeaderFlag.INITIATOR, data[32:40])
            assert seen.setdefault(key, data) == data


def failed_over(steps: SyncSteps, lost: int = 2) -> None:
    """``lost`` exchanges of either side are not known to the new owner."""
    steps.check(steps.a)
    steps.check(steps.b)
    steps.backup().cut = True
    for _ in range(lost):
        steps.check(steps.a)
        steps.check(steps.b)
    steps.fail_over()
