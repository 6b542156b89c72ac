"""Half-open IKE SAs, shared with the backup: within the budget (I7), bounded at the backup, gone when they are over."""

from __future__ import annotations

import msgspec
import pytest

from ike_failover import Backup
from ike_pair import LEFT_IP, RIGHT_IP, START, Pair, Side, right_connection
from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.ike import sharing
from ipsecha.ike.window import digest_of
from ipsecha.model.effects import Share, Transmit
from ipsecha.model.handshakes import decode_half_open
from ipsecha.model.numbers import Notify, Payload
from ipsecha.model.policy import Policy
from ipsecha.wire.chain import split_payloads
from ipsecha.wire.header import parse_header
from ipsecha.wire.payloads.notify import build_notify, parse_notify
from sharing_budget import BudgetError, SharingBudget

PER_S = 40
SECRETS = {"site": ConnectionSecrets(psk=b"secret")}


def first_request() -> bytes:
    """The IKE_SA_INIT request of a real initiator."""
    pair = Pair()
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.gather()
    return pair.queue[0].data


REQUEST = first_request()


class Responder:
    """An owner with a backup; ``check`` watches what is shared."""

    def __init__(self, per_s: int = PER_S, **limits: float) -> None:
        limits = {"cookie_threshold": 100, "shared_half_open_per_s": per_s, **limits}
        self.side = Side("right", (right_connection(remote=()),), SECRETS, **limits)
        self.endpoint = self.side.endpoint
        self.endpoint.activate(1, START)
        self.endpoint.sharing.listening = True
        self.budget = SharingBudget(per_s)
        self.now = START
        self.shared: list[bytes] = []
        self.answers: list[bytes] = []
        self._number = 0

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.endpoint.handle_timer(self.now)

    def receive(self, source: str, cookie: bytes = b"", spi_i: bytes = b"", padding: int = 0) -> None:
        """A request of ``source``: all but the SPI and the cookie are the same for all."""
        self._number += 1
        spi_i = spi_i or self._number.to_bytes(8, "big")
        first, rest = REQUEST[16], REQUEST[28:]
        payloads = [(Payload.VENDOR, bytes(padding))] if padding else []
        if cookie:
            payloads.append((Payload.NOTIFY, build_notify(Notify.COOKIE, cookie)))
        for kind, body in payloads:
            rest = bytes((first, 0)) + (len(body) + 4).to_bytes(2, "big") + body + rest
            first = kind
        data = spi_i + REQUEST[8:16] + bytes((first,)) + REQUEST[17:24] + (28 + len(rest)).to_bytes(4, "big") + rest
        self.endpoint.receive(data, (RIGHT_IP, 500), (source, 500), self.now)
        for effect in self.endpoint.take_effects():
            if isinstance(effect, Share):
                self.shared.append(effect.state)
                self.budget.sent(len(effect.state), self.now)
            elif isinstance(effect, Transmit):
                self.answers += effect.datagrams

    def shake_hands(self, source: str, padding: int = 0) -> None:
        """A request of a source that is real: it returns the cookie where one is demanded."""
        self.receive(source, padding=padding)
        answer = self.answers[-1]
        cookie = _cookie(answer)
        if cookie:
            self.receive(source, cookie, answer[:8], padding)

    def crowd(self, count: int, padding: int) -> None:
        """As many real sources at once."""
        for number in range(count):
            self.shake_hands(f"203.0.{number}.1", padding)

    def flood(self, count: int, seconds: float) -> None:
        """Spoofed requests, each from another source; nobody returns a cookie."""
        for number in range(count):
            self.receive(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
            self.pass_time(seconds / count)


def _cookie(answer: bytes) -> bytes:
    for payload in split_payloads(parse_header(answer).next_payload, answer[28:]):
        if payload.type == Payload.NOTIFY and parse_notify(payload.body).type == Notify.COOKIE:
            return parse_notify(payload.body).data
    return b""


def test_a_half_open_ike_sa_is_shared_at_once() -> None:
    """It is a kibibyte or so, holds both messages, and nothing waits for it: the answer leaves in the same step."""
    responder = Responder()
    responder.receive(LEFT_IP)
    (state,) = responder.shared
    record = decode_half_open(state)
    assert [record.response] == responder.answers
    assert record.request[8:] == REQUEST[8:]
    assert len(state) < len(record.request) + len(record.response) + 300


@pytest.mark.parametrize("per_s", [10, 40, 100, 1000])
def test_a_spoofed_flood_uses_up_a_part_of_one_burst_and_then_nothing(per_s: int) -> None:
    """I7: half-open IKE SAs fill the table up to the threshold; from then on only cookies go out."""
    responder = Responder(per_s)
    responder.flood(1000, 5.0)
    first = responder.budget.count
    assert first <= min(100, max(per_s, 8))
    responder.flood(4000, 20.0)  # nothing has expired yet
    assert responder.budget.count == first
    assert responder.endpoint.counters["cookie-demanded"] > 4500
    assert responder.endpoint.counters["half-open-shared"] == first
    assert responder.endpoint.counters["half-open-withheld"] == 100 - first


def test_a_flood_that_goes_on_for_minutes_costs_the_channel_next_to_nothing() -> None:
    """As half-open IKE SAs expire, the flood takes their places: a few a second at most, and the nearer the threshold,
    the more of the budget is kept for those who return a cookie."""
    responder = Responder(100)
    responder.flood(20000, 300.0)
    assert responder.budget.count <= 100 + 300 / 30 * 100 / 2
    assert responder.budget.count / 300 < 3


def test_honest_peers_are_shared_during_a_flood() -> None:
    """The whole budget is theirs: they have returned a cookie."""
    responder = Responder(100)
    responder.flood(1000, 5.0)
    before = responder.budget.count
    for number in range(60):
        responder.shake_hands(f"203.0.113.{number}")
    assert responder.budget.count == before + 60


def test_who_returns_cookies_is_held_to_the_budget() -> None:
    responder = Responder(cookie_threshold=0)
    for second in range(10):
        for number in range(100):
            responder.shake_hands(f"203.{second}.{number}.1", padding=200)
        responder.pass_time(1.0)
    assert PER_S * 9 <= responder.budget.count <= PER_S * 11
    assert responder.endpoint.counters["half-open-withheld"] == 1000 - responder.budget.count


def test_large_requests_cost_more() -> None:
    responder = Responder(cookie_threshold=0)
    responder.crowd(100, padding=3000)
    assert responder.budget.count <= PER_S / 3
    assert responder.budget.octets <= PER_S * 1024


def test_one_source_gets_no_more_than_its_share_of_what_the_backup_holds() -> None:
    responder = Responder(cookie_threshold=0)
    share = PER_S * sharing.HELD_S // sharing.SOURCE_SHARE
    for _ in range(4):
        for _ in range(30):
            responder.shake_hands("203.0.113.1")
        responder.pass_time(1.0)
    assert responder.budget.count == share
    responder.shake_hands("203.0.113.2")
    assert responder.budget.count == share + 1
    responder.pass_time(31.0)
    responder.shake_hands("203.0.113.1")
    assert responder.budget.count == share + 2, "what the backup holds no more counts no more"


@pytest.mark.parametrize("per_s", [0, PER_S])
def test_nothing_is_shared_where_nobody_listens_or_nothing_is_to_be_shared(per_s: int) -> None:
    responder = Responder(per_s)
    responder.endpoint.sharing.listening = per_s == 0
    responder.receive(LEFT_IP)
    assert not responder.shared
    assert len(responder.answers) == 1
    backup = Responder(0)
    other = Responder()
    other.receive(LEFT_IP)
    backup.endpoint.deactivate()
    backup.endpoint.hold_half_open(other.shared[0])
    assert not backup.endpoint.held_half_opens


def test_a_reload_changes_the_budget() -> None:
    responder = Responder()
    endpoint = responder.endpoint
    policy = Policy(endpoint.policy.connections, limits=Side("x", (), {}, shared_half_open_per_s=0).policy.limits)
    endpoint.configure(policy, endpoint.credentials, responder.now)
    responder.receive(LEFT_IP)
    assert not responder.shared


class _NoBudget(sharing.Sharing):
    """Broken on purpose: shares all there is."""

    def allows(self, *arguments: object) -> bool:
        return True


class _NoReserve(sharing.Sharing):
    """Broken on purpose: takes everybody for verified."""

    def allows(self, half_open: object, octets: int, crowd: int, verified: bool, now: float) -> bool:
        return super().allows(half_open, octets, crowd, True, now)  # type: ignore[arg-type]


class _EachIsOne(sharing.Sharing):
    """Broken on purpose: a large one costs no more than a small one."""

    def allows(self, half_open: object, octets: int, crowd: int, verified: bool, now: float) -> bool:
        return super().allows(half_open, 1, crowd, verified, now)  # type: ignore[arg-type]


def _break(responder: Responder, broken: type[sharing.Sharing]) -> None:
    endpoint = responder.endpoint
    endpoint.sharing = broken(endpoint.policy.limits)
    endpoint.sharing.listening = True


@pytest.mark.parametrize("broken", [_NoBudget, _EachIsOne])
def test_sharing_without_a_budget_is_found_out(broken: type[sharing.Sharing]) -> None:
    """I7, checker and broken variants."""
    responder = Responder(cookie_threshold=0)
    _break(responder, broken)
    with pytest.raises(BudgetError):
        responder.crowd(200, padding=2000)


def test_sharing_what_may_be_spoofed_is_found_out() -> None:
    responder = Responder(100)
    _break(responder, _NoReserve)
    responder.flood(20000, 300.0)
    assert responder.budget.count / 300 > 3


def test_the_backup_holds_no_more_than_its_limit_and_none_for_longer_than_it_may_live() -> None:
    """Whatever the owner sends: the oldest go, and all of them expire by the backup's own timer."""
    responder = Responder(8, cookie_threshold=0)
    _break(responder, _NoBudget)
    backup = Responder(8).endpoint
    backup.deactivate()
    responder.budget = SharingBudget(10**6)
    for number in range(200):
        responder.receive(f"203.0.{number}.1")
        responder.shake_hands(f"203.0.{number}.1")
        responder.pass_time(0.1)
    for state in responder.shared:
        backup.hold_half_open(state)
    limit = 8 * sharing.HELD_S
    assert len(backup.held_half_opens) == limit
    newest = decode_half_open(responder.shared[-1])
    assert newest.spi_r in backup.held_half_opens
    assert decode_half_open(responder.shared[0]).spi_r not in backup.held_half_opens
    due = backup.next_timer()
    assert due is not None
    backup.handle_timer(due)
    assert len(backup.held_half_opens) == limit - 1
    backup.handle_timer(newest.created_at + 30.0)
    assert not backup.held_half_opens
    assert backup.next_timer() is None


def test_what_makes_no_sense_is_counted() -> None:
    """A member of the cluster is trusted with keys, not with our memory or our life."""
    backup = Responder().endpoint
    for state in (b"", b"\xc1", b"\x90", b"\x93\x01\x02\x03", b"\xff" * 40):
        backup.hold_half_open(state)
    assert backup.counters["half-open-malformed"] == 5
    record = decode_half_open(_shared_by_right(Pair())[1])
    for spoiled in ({"keys": b"short"}, {"request": b"x"}, {"local": ("192.0.2.99", 500)}):
        broken = type(record)(**{**{name: getattr(record, name) for name in record.__struct_fields__}, **spoiled})
        backup.hold_half_open(sharing.encode_handshake(broken))
        assert sharing.find(backup, record.spi_r, START) is None
        assert not backup.held_half_opens


def _shared_by_right(pair: Pair) -> tuple[Backup, bytes]:
    backup = Backup(pair, pair.right)
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.gather()
    pair.deliver(pair.queue.pop(0))
    pair.gather()
    return backup, backup.shared[0]


def test_the_ike_sa_takes_the_place_of_its_half_open_one() -> None:
    """At the owner, whose account of the backup it leaves, and at the backup."""
    pair = Pair()
    _, state = _shared_by_right(pair)
    assert pair.right.endpoint.sharing.held(pair.now) == 1
    standby = Responder().endpoint
    standby.deactivate()
    standby.hold_half_open(state)
    assert len(standby.held_half_opens) == 1
    pair.run()
    assert pair.right.endpoint.sharing.held(pair.now) == 0
    standby.adopt(pair.right.sa)
    assert not standby.held_half_opens
    standby.hold_half_open(state)  # sent before the record, and yet behind it: never so in one channel
    assert not standby.held_half_opens


def test_taking_over_touches_none_of_them() -> None:
    """They are put to use by their IKE_AUTH; a forged one with the right SPIs changes nothing."""
    pair = Pair()
    backup, state = _shared_by_right(pair)
    backup.take_over()
    endpoint = pair.right.endpoint
    assert len(endpoint.held_half_opens) == 1
    assert not endpoint.half_open
    record = decode_half_open(state)
    forged = record.spi_i + record.spi_r + bytes.fromhex("2e20230800000001") + (60).to_bytes(4, "big") + bytes(32)
    endpoint.receive(forged, (RIGHT_IP, 500), (LEFT_IP, 500), pair.now)
    assert endpoint.counters["not-authentic"] == 1
    pair.run()
    assert len(pair.right.sas) == len(pair.left.sas) == 1
    assert endpoint.counters["half-open-continued"] == 1


def test_a_repeated_request_finds_the_newest_of_those_that_it_has_made_and_nothing_that_is_gone() -> None:
    """The owner forgets a half-open IKE SA by its age, and makes another of the same request."""
    made = decode_half_open(_shared_by_right(Pair())[1])
    other = msgspec.structs.replace(made, response=made.response[:8] + bytes(8) + made.response[16:])
    renewed = msgspec.structs.replace(made, request=made.request + b"more")
    held = sharing.HeldHalfOpens()
    for one in (made, other):
        held.add(one, 10)
    held.pop(made.spi_r)
    assert held.response_to(digest_of(made.request)) == other.response
    held.add(made, 10)
    held.add(renewed, 10)
    held.pop(made.spi_r)
    assert held.response_to(digest_of(renewed.request)) is None
    assert held.response_to(digest_of(made.request)) is None
    assert len(held) == 1
