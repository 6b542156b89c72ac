"""The witness's ledger and a member's side of it: one vote for an epoch, whatever is lost, late or repeated."""

from __future__ import annotations

import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cluster.effects import AskWitness, ResetChannel, ResetWitness, SendBeat, SendFrame
from ipsecha.cluster.epoch import EPOCH_LIMIT
from ipsecha.cluster.frames import Goodbye, Hello, Join, Pulse, SnapshotEnd, encode_frame
from ipsecha.cluster.journal import Opening
from ipsecha.cluster.pair import PairMember, PairSettings
from ipsecha.cluster.witness import Kind, Ledger, Line, Reply, Request, WitnessClient
from ipsecha.model.errors import ClusterError

A, B = b"a" * 16, b"b" * 16
E1, E2, E3 = 0x110, 0x121, 0x130
NEST = b"\x91" * 980 + b"\xc0"
"""About as deep as a message has room for."""


def ledger(line: Line | None = None) -> Ledger:
    return Ledger("berlin", ("alpha", "beta"), line or Line())


def asked(kind: Kind, boot_id: bytes, epoch: int, base: int, number: int = 1) -> bytes:
    return msgspec.msgpack.encode(Request(kind, number, "berlin", boot_id, epoch, base, 0x100))


def granted(box: Ledger, member: str, data: bytes) -> bool:
    return msgspec.msgpack.decode(box.answer(member, data), type=Reply).granted


def test_of_two_members_that_know_the_same_the_first_one_wins() -> None:
    box = ledger(Line(E1, A, "alpha", E1))
    assert granted(box, "beta", asked(Kind.CLAIM, B, E2, E1))
    assert not granted(box, "alpha", asked(Kind.CLAIM, A, E3, E1))
    assert box.line.member == "beta"


def test_a_ledger_that_lags_behind_still_votes_once() -> None:
    box = ledger(Line(0x10, A, "alpha", 0x10))
    assert granted(box, "alpha", asked(Kind.CLAIM, A, E3, E1))
    assert not granted(box, "beta", asked(Kind.CLAIM, B, E3 + 1, E1))


def test_whoever_has_no_records_wins_only_where_nobody_ever_owned() -> None:
    assert granted(ledger(), "beta", asked(Kind.CLAIM, B, E1 + 1, 0))
    assert not granted(ledger(Line(E1, A, "alpha", E1)), "beta", asked(Kind.CLAIM, B, E2, 0))


def test_who_holds_the_line_and_has_nothing_does_not_win() -> None:
    """It handed over, to an owner that cannot reach the witness, and then lost sight of it."""
    box = ledger(Line(E1, A, "alpha", E1))
    assert not granted(box, "alpha", asked(Kind.CLAIM, A, E3, 0))
    assert granted(box, "beta", asked(Kind.CLAIM, B, E3 + 1, E2))


def test_a_repeated_claim_of_who_starts_with_nothing_wins_again() -> None:
    box = ledger()
    for _ in range(3):
        assert granted(box, "alpha", asked(Kind.CLAIM, A, E1, 0))


def test_a_repeated_claim_wins_again() -> None:
    box = ledger(Line(E1, A, "alpha", E1))
    for _ in range(3):
        assert granted(box, "beta", asked(Kind.CLAIM, B, E2, E1))


def test_an_epoch_is_told_upwards_only() -> None:
    box = ledger(Line(E2, B, "beta", E1))
    assert not granted(box, "alpha", asked(Kind.TELL, A, E1, E1))
    assert granted(box, "alpha", asked(Kind.TELL, A, E3, E3))
    assert box.line.epoch == E3


def test_only_the_holder_returns_and_only_what_it_holds() -> None:
    box = ledger(Line(E1, A, "alpha", E1))
    granted(box, "beta", asked(Kind.CLAIM, B, E2, E1))
    assert not granted(box, "alpha", asked(Kind.RETURN, A, E2, E1))
    assert not granted(box, "beta", asked(Kind.RETURN, B, E2 + 16, E1))
    assert granted(box, "beta", asked(Kind.RETURN, B, E2, E1))
    assert granted(box, "alpha", asked(Kind.CLAIM, A, E3, E1))


def test_a_copy_of_a_claim_whose_vote_was_returned_wins_nothing() -> None:
    """It was on its way on an older connection: the line would stand above the epoch of the owner, for ever."""
    box = ledger(Line(E1, A, "alpha", E1))
    claim = asked(Kind.CLAIM, B, E2, E1, number=1)
    assert granted(box, "beta", claim)
    assert granted(box, "beta", asked(Kind.RETURN, B, E2, E1, number=2))
    assert not granted(box, "beta", claim)
    assert box.line.epoch == E1
    assert granted(box, "beta", asked(Kind.CLAIM, B, E2, E1, number=3))


def test_a_late_return_does_not_undo_a_vote_that_was_claimed_again() -> None:
    box = ledger(Line(E1, A, "alpha", E1))
    assert granted(box, "beta", asked(Kind.CLAIM, B, E2, E1, number=1))
    assert granted(box, "beta", asked(Kind.RETURN, B, E2, E1, number=2))
    assert granted(box, "beta", asked(Kind.CLAIM, B, E2, E1, number=3))
    assert not granted(box, "beta", asked(Kind.RETURN, B, E2, E1, number=2))
    assert box.line.epoch == E2


@pytest.mark.parametrize(
    ("member", "data"),
    [
        ("mallory", asked(Kind.LOOK, A, 0, 0)),
        ("witness", asked(Kind.LOOK, A, 0, 0)),
        ("alpha", b""),
        ("alpha", b"\xc1"),
        ("alpha", asked(Kind.CLAIM, A, E1, E2)),
        ("alpha", asked(Kind.CLAIM, b"short", E2, E1)),
        ("alpha", asked(Kind.TELL, A, EPOCH_LIMIT, EPOCH_LIMIT)),
        ("alpha", b"\x98" + asked(Kind.LOOK, A, 0, 0)[1:] + NEST),
        ("alpha", msgspec.msgpack.encode(Request(Kind.CLAIM, 1, "paris", A, E2, E1))),
    ],
)
def test_hostile_messages_change_nothing(member: str, data: bytes) -> None:
    box = ledger(Line(E1, A, "alpha", E1))
    with pytest.raises(ClusterError):
        box.answer(member, data)
    assert box.line == Line(E1, A, "alpha", E1)


@given(st.binary(max_size=200))
def test_octets_of_any_kind_are_an_error_or_an_answer(data: bytes) -> None:
    for act in (lambda: ledger().answer("alpha", data), lambda: WitnessClient("berlin", A).answer(data)):
        try:
            act()
        except ClusterError:
            continue


@given(
    st.lists(
        st.tuples(st.sampled_from([Kind.CLAIM, Kind.TELL, Kind.RETURN, Kind.LOOK]), st.sampled_from("ab"))
        .flatmap(lambda one: st.tuples(st.just(one), st.integers(0, 40), st.integers(0, 40)))
        .filter(lambda one: one[2] <= one[1]),
        max_size=30,
    )
)
def test_no_two_members_hold_the_vote_on_the_same_base(steps: list[tuple[tuple[Kind, str], int, int]]) -> None:
    """A base that has lost once loses for ever, unless the winner gives its vote back."""
    box = ledger()
    winners: dict[int, str] = {}
    for (kind, who), term, base in steps:
        epoch = term << 4 | "ab".index(who)
        old = box.line
        won = granted(
            box, {"a": "alpha", "b": "beta"}[who], asked(kind, who.encode() * 16, epoch, min(base << 4, epoch))
        )
        if kind is Kind.RETURN and box.line != old:
            winners.pop(old.epoch, None)
        elif kind is Kind.CLAIM and won:
            assert winners.setdefault(epoch, who) == who
        if kind is not Kind.RETURN:
            assert box.line.epoch >= old.epoch


def test_a_claim_without_an_answer_is_repeated_on_the_next_connection() -> None:
    box, client = ledger(Line(E1, A, "alpha", E1)), WitnessClient("berlin", B)
    client.up()
    lost = client.ask(E2, E1, E1)
    box.answer("beta", lost)
    client.down()
    assert client.up() == lost
    decided = client.answer(box.answer("beta", lost))
    assert decided is not None
    assert decided[1]
    assert client.claim is None


@pytest.mark.parametrize(
    "data",
    [
        b"\x94\x01\xc3\x90" + NEST,
        *(msgspec.msgpack.encode(Reply(1, False, Line(epoch))) for epoch in (-1, EPOCH_LIMIT, 2**64 - 1)),
    ],
)
def test_a_witness_that_talks_nonsense_is_not_believed(data: bytes) -> None:
    client = WitnessClient("berlin", A)
    client.up()
    with pytest.raises(ClusterError):
        client.answer(data)
    assert client.line is None


def test_a_connection_on_which_nothing_is_answered_is_found_out() -> None:
    client = WitnessClient("berlin", A)
    client.up()
    for _ in range(5):
        client.tick()
    assert not client.is_dead
    client.tick()
    assert client.is_dead


def test_whoever_has_followed_an_owner_does_not_begin_anew_beside_it() -> None:
    """The witness has never heard of that owner, so its ledger would allow it."""
    settings = PairSettings("berlin", ("alpha", "beta"), 1, witness=True)
    beta = PairMember(settings, lambda count: bytes(range(count)))
    asked_for: list[Kind] = []

    def carry_out(now: float) -> None:
        for effect in beta.take_effects():
            if isinstance(effect, AskWitness):
                asked_for.append(Kind(msgspec.msgpack.decode(effect.data, type=Request).kind))
                beta.witness_answer(box.answer("beta", effect.data), now)

    box = ledger()
    beta.start(0.0, 1.0)
    beta.witness_up(0.0)
    beta.channel_up(0.0)
    beta.receive_frame(encode_frame(Hello(1, "berlin", 0, A, True, E1, 2, bytes(32), 0.0, E1)), 0.0)
    beta.channel_down(False, 0.1)
    for tick in range(1, 100):
        beta.handle_timer(tick / 10)
        carry_out(tick / 10)
    assert set(asked_for) == {Kind.LOOK}
    assert not beta.owns
    assert box.line == Line()


def test_saved_records_wait_for_the_witness() -> None:
    """Both are back after a power cut, the witness is not: the partner's marker says that it has owned since."""
    pair = [PairMember(PairSettings("berlin", ("alpha", "beta"), index, witness=True), os.urandom) for index in (0, 1)]
    pair[0].restore(Opening("berlin", "alpha", True, E1, E1, E1), False, 60.0)
    pair[1].restore(Opening("berlin", "beta", False, E2, E1, E2), False, 60.0)
    for member in pair:
        member.start(0.0, 0.0)
        member.channel_up(0.0)
    for tick in range(100):
        for member, other in (pair, pair[::-1]):
            member.handle_timer(tick / 10)
            for effect in member.take_effects():
                if isinstance(effect, SendFrame):
                    other.receive_frame(effect.data, tick / 10)
                elif isinstance(effect, SendBeat):
                    other.beat_received("synch", effect.data, tick / 10)
        assert not any(member.owns and member.lineage == E1 for member in pair)


def test_saved_records_that_were_refused_are_not_believed_later() -> None:
    """The partner's marker may be as old as ours: it says nothing about what the witness knows."""
    epoch, later = 5 << 8, 7 << 8
    box = ledger(Line(later, b"d" * 16, "beta", epoch))
    alpha, beta = (
        PairMember(PairSettings("berlin", ("alpha", "beta"), index, witness=True), os.urandom) for index in (0, 1)
    )
    alpha.restore(Opening("berlin", "alpha", True, epoch, epoch, epoch), False, 60.0)
    beta.restore(Opening("berlin", "beta", False, epoch, epoch, epoch), False, 60.0)
    alpha.start(0.0, 1.0)
    alpha.witness_up(0.0)
    for tick in range(40):
        alpha.handle_timer(tick / 10)
        for effect in alpha.take_effects():
            if isinstance(effect, AskWitness):
                alpha.witness_answer(box.answer("alpha", effect.data), tick / 10)
    assert not alpha.restored
    beta.start(4.0, 1.0)
    beta.channel_up(4.0)
    alpha.channel_up(4.0)
    (hello,) = [effect.data for effect in beta.take_effects() if isinstance(effect, SendFrame)]
    alpha.receive_frame(hello, 4.0)
    assert alpha.owns
    assert alpha.lineage == alpha.epoch, "it has begun without them"


def backup_without_a_witness(now: float) -> PairMember:
    """In sync with an owner in E1; the witness cannot be reached."""
    beta = PairMember(PairSettings("berlin", ("alpha", "beta"), 1, witness=True), lambda count: bytes(range(count)))
    beta.start(now, 1.0)
    beta.channel_up(now)
    beta.receive_frame(encode_frame(Hello(1, "berlin", 0, A, True, E1, 2, bytes(32), 0.0, E1)), now)
    beta.receive_frame(encode_frame(SnapshotEnd(E1, 1, E1)), now)
    beta.take_effects()
    assert beta.in_sync
    return beta


@pytest.mark.parametrize(
    ("slept_s", "word", "owns"), [(0.0, None, True), (0.3, None, False), (0.3, E1, True), (0.3, E3, False)]
)
def test_who_has_slept_asks_unless_the_partner_has_said_that_it_stayed(
    slept_s: float, word: int | None, owns: bool
) -> None:
    """Proof of death: its process is gone.  It may have gone on with the vote while we slept, in a later epoch; its
    last word says whether."""
    beta = backup_without_a_witness(0.0)
    now = 0.1 + slept_s
    beta.handle_timer(now)
    if word is not None:
        beta.receive_frame(encode_frame(Goodbye(word)), now)
    beta.channel_down(False, now)
    beta.channel_down(True, now)
    assert beta.owns is owns


def test_a_goodbye_before_the_clock_has_followed() -> None:
    """The owner's clock is an hour behind ours, and it ends at once: the next beat is due by its clock."""
    beta = PairMember(PairSettings("berlin", ("alpha", "beta"), 1), lambda count: bytes(range(count)))
    beta.start(3600.0, 1.0)
    beta.channel_up(3600.0)
    beta.receive_frame(encode_frame(Hello(1, "berlin", 0, A, True, E1, 2, bytes(32), 0.0, E1)), 3600.0)
    beta.receive_frame(encode_frame(Goodbye(E1)), 3600.0)
    assert beta.next_timer() < 1.0


def test_after_a_refusal_a_member_waits_before_it_asks_again() -> None:
    box, client = ledger(Line(E2, B, "beta", E1)), WitnessClient("berlin", A)
    client.up()
    decided = client.answer(box.answer("alpha", client.ask(E3, E1, E1)))
    assert decided is not None
    assert not decided[1]
    assert not client.may_claim
    for _ in range(10):
        client.tick()
    assert client.may_claim


def test_owners_that_begin_anew_outgrow_the_word_of_a_dead_one() -> None:
    """Both have begun below the witness's line; a backup would be refused when its owner dies."""
    box = ledger(Line(E3 << 8, b"d" * 16, "alpha", E1))
    alpha = PairMember(PairSettings("berlin", ("alpha", "beta"), 0, witness=True), os.urandom)
    alpha.start(0.0, 0.0)
    alpha.channel_up(0.0)
    alpha.receive_frame(encode_frame(Hello(1, "berlin", 1, B, False, 0, 0, bytes(32), 0.0)), 0.0)
    assert alpha.owns
    assert alpha.epoch < box.line.epoch
    alpha.receive_frame(encode_frame(Join(alpha.epoch)), 0.0)
    alpha.snapshot(iter(()), 0, 0.0)
    alpha.close_join(iter(()), 0.0)
    alpha.witness_up(0.0)
    alpha.take_effects()
    assert alpha.witness is not None
    alpha.witness_answer(box.answer("alpha", alpha.witness.request(Kind.LOOK)), 0.0)
    before = alpha.epoch
    alpha.handle_timer(0.2)
    for effect in alpha.take_effects():
        if isinstance(effect, AskWitness):
            assert alpha.epoch == before, "taken before the witness knows of it"
            alpha.witness_answer(box.answer("alpha", effect.data), 0.2)
    alpha.handle_timer(0.4)
    effects = alpha.take_effects()
    assert alpha.epoch == box.line.epoch > E3 << 8
    assert any(isinstance(effect, ResetChannel) for effect in effects)


def test_a_vote_of_no_use_is_returned_until_the_witness_knows() -> None:
    """Else the partner would be refused when its owner dies, because of an epoch that nobody has taken."""
    box, settings = ledger(Line(E1, A, "alpha", E1)), PairSettings("berlin", ("alpha", "beta"), 1, witness=True)
    beta = PairMember(settings, lambda count: bytes(range(count)))
    beta.start(0.0, 1.0)
    beta.witness_up(0.0)
    beta.channel_up(0.0)
    beta.receive_frame(encode_frame(Hello(1, "berlin", 0, A, True, E1, 2, bytes(32), 0.0, E1)), 0.0)
    assert beta.witness is not None
    beta.witness_answer(box.answer("beta", beta.witness.ask(E2, E1, E1)), 0.1)  # its owner is there again
    assert box.line.epoch == E2
    beta.take_effects()  # the RETURN is lost
    for tick in range(2, 200):
        beta.handle_timer(tick / 10)
        for effect in beta.take_effects():
            if isinstance(effect, AskWitness):
                beta.witness_answer(box.answer("beta", effect.data), tick / 10)
            elif isinstance(effect, ResetWitness):
                beta.witness_up(tick / 10)
        beta.receive_frame(encode_frame(Pulse(E1)), tick / 10)
    assert box.line.epoch == E1
