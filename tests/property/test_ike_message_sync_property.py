"""Whatever updates are lost on either side: after a synchronisation (RFC 6311) both sides agree on message IDs, and an
exchange from each of them works."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ike_pair import Packet, Side, child_policy, left_connection, proposal, right_connection
from ipsecha.ike.flags import LEAVING
from ipsecha.model.numbers import Notify, Payload
from ipsecha.model.records import IkeSa
from ipsecha.wire.payloads.counter_sync import MessageIdSync
from ipsecha.wire.payloads.notify import build_notify
from sync_steps import SyncSteps, check_ivs

SIDES = ("left", "right")
WORK = ("check", "rekey child", "new child", "delete child")
PATIENT = {"retransmit_tries": 12, "retransmit_timeout_s": 0.5, "retransmit_factor": 1.2}

works = st.tuples(st.just("work"), st.sampled_from(SIDES), st.sampled_from(WORK))
cuts = st.tuples(st.just("cut"), st.sampled_from(SIDES), st.just(""))
some_packets = st.tuples(st.just("carry"), st.sampled_from(("1", "2", "3", "all")), st.just(""))
histories = st.lists(st.one_of(works, works, some_packets, some_packets, cuts), max_size=14)
losses = st.lists(st.integers(0, 24), max_size=12, unique=True)


def make(ike: str) -> SyncSteps:
    children = (child_policy(), child_policy("other", "10.3.0.0/16", "10.4.0.0/16"))
    mirrored = tuple(
        child_policy(one.name, remote=local, local=remote)
        for one, local, remote in zip(
            children, ("10.1.0.0/16", "10.3.0.0/16"), ("10.2.0.0/16", "10.4.0.0/16"), strict=True
        )
    )
    proposals = (proposal(ike),)
    return SyncSteps(
        "left",
        left_connection(proposals=proposals, children=children, **PATIENT),
        right_connection(proposals=proposals, children=mirrored, **PATIENT),
    )


def in_use(side: Side) -> IkeSa:
    (sa,) = (sa for sa in side.sas if not sa.flags & LEAVING)
    return sa


def work(steps: SyncSteps, side: Side, kind: str) -> None:
    endpoint, sa, now = side.endpoint, in_use(side), steps.now
    if kind == "check":
        endpoint.check_liveness(sa.local_spi, now)
    elif kind == "new child":
        endpoint.initiate("site", "other", now)
    elif sa.children and kind == "rekey child":
        endpoint.rekey_child(sa.children[-1].spi_in, now)
    elif sa.children and kind == "delete child":
        endpoint.terminate(now, spi_in=sa.children[-1].spi_in)


def live_through(steps: SyncSteps, history: list[tuple[str, str, str]]) -> None:
    """What happened before the failovers; messages may be on their way at the end of it."""
    by_name = dict(zip(SIDES, steps.pair.sides, strict=True))
    for what, which, kind in history:
        if what == "work":
            work(steps, by_name[which], kind)
        elif what == "cut":
            steps.pair.gather()
            steps.backup(by_name[which]).cut = True
        elif which == "all":
            steps.pair.run()
        else:
            for _ in range(int(which)):
                steps.pair.gather()
                if steps.pair.queue:
                    steps.pair.deliver(steps.pair.queue.pop(0))
    steps.pair.gather()


@settings(max_examples=150, deadline=None)
@given(
    histories,
    st.sampled_from((("left",), ("right",), SIDES)),
    losses,
    st.sampled_from(("aes128gcm16-prfsha256-x25519", "aes128-sha256-prfsha256-x25519")),
    st.booleans(),
)
def test_both_sides_agree(
    history: list[tuple[str, str, str]], failing: tuple[str, ...], lost: list[int], ike: str, late: bool
) -> None:
    """``late``: what the dead owners have sent arrives after all, behind the first messages of the new ones."""
    steps = make(ike)
    live_through(steps, history)
    by_name = dict(zip(SIDES, steps.pair.sides, strict=True))
    for side in by_name.values():
        backup = steps.backup(side)
        if side.name not in failing:
            backup.cut = False
            continue
        backup.take_over()
        backup.cut = False
    before, steps.pair.queue = steps.pair.queue, []
    count = iter(range(1000))
    steps.pair.network = lambda packet: [] if next(count) in lost else [packet]
    for name in failing:
        steps.pair.queue += steps.ask(by_name[name], sa=in_use(by_name[name]))
    if late:
        steps.pair.queue += before
    steps.pair.advance(30.0)
    steps.pair.network = lambda packet: [packet]
    steps.pair.advance(30.0)
    a, b = in_use(steps.a), in_use(steps.b)
    assert (a.spi_i, a.spi_r) == (b.spi_i, b.spi_r), "the IKE SA has not been made again"
    assert (a.next_request_id, a.expected_request_id) == (b.expected_request_id, b.next_request_id)
    for side, sa in ((steps.a, a), (steps.b, b)):
        requests = sa.next_request_id
        side.endpoint.check_liveness(sa.local_spi, steps.now)
        steps.pair.run()
        assert sa.exchange is None
        assert sa.next_request_id > requests
    check_ivs(steps.pair)


hostile_ids = st.one_of(st.integers(0, 12), st.integers(0, 0xFFFFFFFF), st.integers(0xFFFEFFFF, 0xFFFFFFFF))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(hostile_ids, hostile_ids, st.booleans(), st.booleans(), st.binary(max_size=9)), max_size=8))
def test_message_ids_never_go_back(said: list[tuple[int, int, bool, bool, bytes]]) -> None:
    """Whatever an authenticated peer says in synchronisations, asked for or not."""
    steps = make("aes128gcm16-prfsha256-x25519")
    side, highest = steps.b, -1
    steps.ask(side)
    exchange = side.sa.exchange
    assert exchange is not None
    for send, receive, response, right_nonce, data in said:
        before = side.sa.next_request_id, side.sa.expected_request_id
        nonce = exchange.nonce if right_nonce else b"nonc"
        more = [(int(Payload.NOTIFY), build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC, data))] if data else []
        packet = steps.forged_sync(steps.a, MessageIdSync(nonce, send, receive), *more, response=response)
        answers: list[Packet] = steps.deliver(packet)
        after = side.sa.next_request_id, side.sa.expected_request_id
        assert after >= before
        assert min(now - then for now, then in zip(after, before, strict=True)) >= 0
        if any(answer.is_response for answer in answers):
            assert send > highest
            highest = send
    assert max(side.sa.next_request_id, side.sa.expected_request_id) < 0xFFFF0000
