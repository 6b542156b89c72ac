"""Handshakes on the synch channel: those of the owner are numbered like records, those of strangers are not."""

from __future__ import annotations

import msgspec

import frozen_encodings as frozen
from ike_failover import Backup
from ike_pair import Entropy, Pair
from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.frames import decode_frame, encode_frame
from ipsecha.cluster.pair import PairMember, PairSettings, Role
from ipsecha.gateway.output_commit import INITIATION

EPOCH = 0x30
SPI = b"\x01" * 8


def _member(role: Role) -> PairMember:
    member = PairMember(PairSettings("lab", ("alpha", "beta"), 0), Entropy("alpha"))
    member.role, member.epoch, member.channel_is_up = role, EPOCH, True
    return member


def _frames(member: PairMember) -> list[object]:
    return [decode_frame(effect.data) for effect in member.take_effects() if isinstance(effect, fx.SendFrame)]


def test_the_owners_handshakes_travel_apart_from_records_in_the_same_commit() -> None:
    log = CommitLog()
    changes = [(INITIATION + SPI, b"handshake"), (SPI, b"record"), (INITIATION + SPI[::-1], None)]
    commit = log.commit(EPOCH, changes, 0.0)
    assert commit == frames.Commit(EPOCH, 1, ((SPI, b"record"),), ((SPI, b"handshake"), (SPI[::-1], None)))


def test_version_0_1_takes_the_records_and_leaves_the_handshakes() -> None:
    """Rolling upgrade: it acknowledges the commit, as before; a half-open IKE SA is an unknown frame to it."""
    commit = encode_frame(frames.Commit(EPOCH, 1, ((SPI, None),), ((SPI, b"handshake"),)))
    older = frozen.frame_through_version_0_1(commit)
    assert older is not None
    assert decode_frame(older) == frames.Commit(EPOCH, 1, ((SPI, None),))
    assert frozen.frame_through_version_0_1(encode_frame(frames.HalfOpen(EPOCH, b"state"))) is None


def test_a_half_open_ike_sa_goes_to_whoever_listens_and_is_not_numbered() -> None:
    owner = _member(Role.ACTIVE)
    for backup in (BackupState.JOINING, BackupState.IN_SYNC):
        owner.log.backup = backup
        assert owner.replicates
        owner.share(b"state")
        assert _frames(owner) == [frames.HalfOpen(EPOCH, b"state")]
    assert owner.log.number == 0
    owner.log.backup = BackupState.ABSENT
    assert not owner.replicates
    owner.share(b"state")
    assert _frames(owner) == []
    owner.log.backup, owner.channel_is_up = BackupState.IN_SYNC, False
    assert not owner.replicates


def test_only_a_backup_holds_what_its_own_owner_shares() -> None:
    """I5: neither an owner nor the backup of a later one heeds it; nobody answers."""
    for role, epoch, held in ((Role.STANDBY, EPOCH, 1), (Role.STANDBY, EPOCH - 16, 0), (Role.ACTIVE, EPOCH, 0)):
        member = _member(role)
        member._greeted = True
        member.receive_frame(encode_frame(frames.HalfOpen(epoch, b"state")), 0.0)
        effects = member.take_effects()
        assert effects == [fx.HoldHalfOpen(b"state")] * held
        assert member.counters["stale half-open"] == 1 - held


def test_nothing_of_them_is_printed() -> None:
    """I6."""
    secret = b"0123456789abcdef"
    frame = frames.Commit(EPOCH, 1, (), ((SPI, secret),))
    texts = [repr(one) for one in (frame, frames.HalfOpen(EPOCH, secret), fx.HoldHalfOpen(secret))]
    texts.append(repr(fx.Apply((), ((SPI, secret),))))
    for text in texts:
        assert secret.decode() not in text
        assert secret.hex() not in text


def test_a_backup_that_joins_in_the_middle_of_a_handshake_gets_it_with_the_snapshot() -> None:
    pair = Pair()
    backup = Backup(pair, pair.left)
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.gather()
    assert not list(pair.left.endpoint.handshake_records()), "before IKE_AUTH there is nothing to know"
    pair.deliver(pair.queue.pop(0))
    pair.gather()
    pair.deliver(pair.queue.pop(0))
    pair.gather()
    snapshot = dict(pair.left.endpoint.handshake_records())
    assert snapshot == backup.initiations
    assert len(snapshot) == 1
    backup.initiations = snapshot
    pair.queue.clear()
    backup.take_over()
    pair.advance(5.0)
    assert len(pair.left.sas) == len(pair.right.sas) == 1


def test_a_handshake_that_makes_no_sense_is_a_fault_of_the_channel() -> None:
    """The gateway resets the channel then; what was known stays."""
    endpoint = Pair().left.endpoint
    for octets in (b"", b"\x90", b"\xc1"):
        try:
            endpoint.adopt_initiation(SPI, octets)
        except msgspec.DecodeError:
            continue
        raise AssertionError("it was taken")
    assert not endpoint.initiations
