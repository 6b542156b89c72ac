"""A standby takes in records, says nothing, and goes on where the owner ended."""

from __future__ import annotations

from ike_pair import Pair, Side, left_connection, right_connection
from ipsecha.ike.standby import BACKGROUND_BATCH
from ipsecha.model.effects import Effect, InstallChild, RemoveChild, Replicate, Transmit, UpdateChild, Withdraw
from ipsecha.model.policy import Start
from ipsecha.model.records import decode_record, encode_record


def backup_of(side: Side) -> Side:
    """A second member with the same policy and secrets, and no records yet."""
    backup = Side(f"backup of {side.name}", side.policy.connections, {})
    backup.endpoint.configure(side.policy, side.endpoint.credentials, 0.0)
    return backup


def follow(owner: Side, backup: Side) -> None:
    """Hand over everything that the owner has replicated so far."""
    for effect in owner.effects:
        if isinstance(effect, Replicate):
            backup.endpoint.adopt(decode_record(encode_record(effect.sa)))
        elif isinstance(effect, Withdraw):
            backup.endpoint.forget(effect.local_spi)
    owner.effects.clear()


def take_over(pair: Pair, backup: Side) -> None:
    backup.endpoint.activate(5, pair.now)
    pair.right = backup
    backup.collect()


def names(effects: list[Effect]) -> list[str]:
    return [type(effect).__name__ for effect in effects]


def test_a_standby_installs_updates_and_removes_by_difference() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    sa = decode_record(encode_record(pair.right.sa))
    backup.endpoint.adopt(sa)
    assert names(backup.endpoint.take_effects()) == ["InstallChild"]
    again = decode_record(encode_record(sa))
    backup.endpoint.adopt(again)
    (effect,) = backup.endpoint.take_effects()
    assert isinstance(effect, UpdateChild)
    assert effect.child is again.children[0]
    moved = decode_record(encode_record(sa))
    moved.remote = ("203.0.113.5", 4500)
    backup.endpoint.adopt(moved)
    (effect,) = backup.endpoint.take_effects()
    assert isinstance(effect, UpdateChild)
    assert effect.sa.remote == moved.remote
    bare = decode_record(encode_record(sa))
    bare.children = ()
    backup.endpoint.adopt(bare)
    assert names(backup.endpoint.take_effects()) == ["RemoveChild"]
    assert not backup.endpoint.child_index
    backup.endpoint.adopt(decode_record(encode_record(sa)))
    backup.endpoint.take_effects()
    backup.endpoint.forget(sa.local_spi)
    assert names(backup.endpoint.take_effects()) == ["RemoveChild"]
    assert not backup.endpoint.sas
    assert not list(backup.endpoint.sas_of("site"))


def test_ceilings_never_fall() -> None:
    """I2 and I3: what the backup has acknowledged stands, whichever record comes later."""
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    sa = decode_record(encode_record(pair.right.sa))
    backup.endpoint.adopt(sa)
    sa.children[0].in_ceiling, sa.children[0].out_ceiling = 5000, 7000
    backup.endpoint.adopt(decode_record(encode_record(pair.right.sa)))
    child = backup.sa.children[0]
    assert (child.in_ceiling, child.out_ceiling) == (5000, 7000)


def test_a_child_that_changes_hands_is_never_removed() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    follow(pair.right, backup)
    backup.collect()
    pair.left.endpoint.rekey_ike(pair.left.sa.local_spi, pair.now)
    pair.run()
    follow(pair.right, backup)
    effects = backup.endpoint.take_effects()
    assert not [effect for effect in effects if isinstance(effect, RemoveChild | InstallChild)]
    assert [effect for effect in effects if isinstance(effect, UpdateChild)]
    (child,) = [child for sa in backup.sas for child in sa.children]
    assert backup.endpoint.sa_of_child(child.spi_in) is not None


def test_a_standby_says_nothing_and_drops_what_arrives() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    follow(pair.right, backup)
    backup.collect()
    for packet in pair.sent:
        backup.endpoint.receive(packet.data, packet.destination, packet.source, pair.now)
    backup.endpoint.handle_timer(pair.now + 1e6)
    assert backup.endpoint.take_effects() == []
    assert backup.endpoint.next_timer() is None
    assert backup.endpoint.counters["not-active"] == len(pair.sent)


def test_the_new_owner_repeats_the_last_answer_octet_for_octet() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.gather()
    request = pair.queue[0]
    pair.run()
    answer = pair.sent[-1]
    follow(pair.right, backup)
    take_over(pair, backup)
    pair.deliver(request)
    assert [packet.data for packet in backup.collect()] == [answer.data]


def test_the_new_owner_repeats_the_request_in_flight_and_takes_its_answer() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    pair.network = lambda packet: []
    pair.right.endpoint.rekey_child(pair.right.sa.children[0].spi_in, pair.now)
    pair.gather()
    request = pair.sent[-1]
    follow(pair.right, backup)
    take_over(pair, backup)
    pair.network = lambda packet: [packet]
    pair.now += 10
    pair.sent.clear()
    pair.advance(3.0)
    assert pair.sent[0].data == request.data
    assert len(pair.left.sa.children) == len(backup.sa.children) == 1
    assert backup.sa.children[0].spi_out == pair.left.sa.children[0].spi_in
    assert backup.sa.exchange is None


def test_both_sides_go_on_after_a_takeover() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    follow(pair.right, backup)
    take_over(pair, backup)
    pair.left.endpoint.rekey_ike(pair.left.sa.local_spi, pair.now)
    pair.advance(1.0)
    for sa in backup.sas:
        backup.endpoint.check_liveness(sa.local_spi, pair.now)
    pair.advance(20000.0)
    assert len(pair.left.sa.children) == 1
    assert "peer-dead" not in pair.left.events + backup.events


def test_taking_over_touches_no_sa_and_the_background_pass_is_paced() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    record = encode_record(pair.right.sa)
    total = 3 * BACKGROUND_BATCH
    for number in range(total):
        sa = decode_record(record)
        sa.spi_r = number.to_bytes(8, "big")
        sa.children = ()
        backup.endpoint.adopt(sa)
    backup.collect()
    backup.endpoint.activate(9, pair.now)
    assert len(backup.endpoint.timers) == 0
    assert backup.endpoint.take_effects() == []
    armed = []
    while backup.endpoint.next_timer() == pair.now:
        backup.endpoint.handle_timer(pair.now)
        armed.append(len(backup.endpoint.timers))
    assert armed[0] <= BACKGROUND_BATCH
    assert armed[-1] == total


def test_requests_in_flight_come_first_after_a_takeover() -> None:
    pair = Pair()
    pair.establish()
    backup = backup_of(pair.right)
    idle = encode_record(pair.right.sa)
    pair.network = lambda packet: []
    pair.right.endpoint.check_liveness(pair.right.sa.local_spi, pair.now)
    pair.gather()
    waiting = encode_record(pair.right.sa)
    for number in range(2 * BACKGROUND_BATCH):
        sa = decode_record(waiting if number == 3 else idle)
        sa.spi_r = number.to_bytes(8, "big")
        sa.children = ()
        backup.endpoint.adopt(sa)
    backup.collect()
    now = pair.now + 5
    backup.endpoint.activate(9, now)
    backup.endpoint.handle_timer(now)
    backup.endpoint.handle_timer(now + 0.2)
    transmitted = [effect for effect in backup.endpoint.take_effects() if isinstance(effect, Transmit)]
    assert len(transmitted) == 1


def test_a_member_that_steps_down_forgets_what_is_not_in_the_records() -> None:
    """Our handshake is in the records once its IKE_AUTH request stands: it stays, with the SPI that it offers."""
    for messages in (1, 2):
        pair = Pair()
        pair.left.endpoint.initiate("site", None, pair.now)
        for _ in range(messages):
            pair.gather()
            pair.deliver(pair.queue.pop(0))
        for side in pair.sides:
            side.endpoint.deactivate()
            side.endpoint.take_effects()
        recorded = messages == 2
        assert len(pair.left.endpoint.initiations) == recorded
        assert len(pair.left.endpoint.child_index) == recorded
        assert not pair.right.endpoint.half_open
        assert pair.left.endpoint.next_timer() is None
        pair.left.endpoint.discard()
        assert not pair.left.endpoint.initiations
        assert not pair.left.endpoint.child_index


def test_the_new_owner_brings_up_what_is_to_be_up() -> None:
    start = left_connection()
    start = left_connection(children=(type(start.children[0])(**{**fields(start.children[0]), "start": Start.START}),))
    pair = Pair(start)
    pair.run()
    pair.advance(1.0)
    assert len(pair.left.sas) == 1
    backup = backup_of(pair.left)
    backup.endpoint.activate(7, pair.now)
    pair.left = backup
    pair.advance(2.0)
    assert len(backup.sas) == 1
    assert right_connection().children[0].start is Start.NONE


def fields(struct: object) -> dict[str, object]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}  # type: ignore[attr-defined]


def test_after_a_takeover_the_peers_are_not_all_asked_at_once() -> None:
    """Liveness counts from the takeover, each SA at a moment of its own within the interval, none later than it."""
    pair = Pair(left_connection(dpd_s=0.0), right_connection(dpd_s=30.0, unique=False))
    pair.establish()
    backup = backup_of(pair.right)
    record = encode_record(pair.right.sa)
    for number in range(256):
        sa = decode_record(record)
        sa.spi_r = sa.spi_r[:6] + bytes((number, 0))
        sa.children = ()
        backup.endpoint.adopt(sa)
    began = pair.now + 3600.0
    backup.endpoint.activate(5, began)
    asked: dict[int, int] = {}
    while (when := backup.endpoint.next_timer()) is not None and when <= began + 30.0:
        backup.endpoint.handle_timer(max(when, began))
        sent = sum(isinstance(effect, Transmit) for effect in backup.endpoint.take_effects())
        second = int(when - began)
        asked[second] = asked.get(second, 0) + sent
        if second > 29:
            break
    first = [second for second, count in asked.items() if count]
    assert min(first) >= 3
    assert sum(asked.get(second, 0) for second in range(5)) <= 60  # some of them repetitions
    assert len(first) >= 25
