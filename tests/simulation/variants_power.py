"""Clusters whose saved state is broken on purpose."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ipsecha.cluster import effects as fx
from ipsecha.cluster import journal
from ipsecha.cluster.frames import Hello
from ipsecha.cluster.pair import PairMember
from ipsecha.gateway.state_file import StateFile
from ipsecha.model.records import decode_record
from simulation.faults import check_liveness
from simulation.gateways import MemberNode
from simulation.power import PowerVariant, PowerWorld, traffic


def _bounds_not_enforced(node: MemberNode) -> None:
    """Bounds are written, and numbers go beyond them."""
    node.plane._sad._bounds_of = lambda child: None  # type: ignore[method-assign]


def _bound_before_durable(node: MemberNode) -> None:
    """A bound is raised when its write begins, not when it has ended."""
    sad = node.plane._sad
    to_write = sad.bounds_to_write

    def hasty(saved_now: Any, now: float) -> list[tuple[int, int, int]]:
        wanted = to_write(saved_now, now)
        sad.bounds_written()
        return wanted

    sad.bounds_to_write = hasty  # type: ignore[method-assign]


def _freed_before_removed(node: MemberNode) -> None:
    """A disk fails, and the bounds end before the file is gone."""
    state_file = _state_file(node)
    give_up = state_file._give_up

    def hasty(error: OSError) -> None:
        node.plane.end_saving()
        give_up(error)

    state_file._give_up = hasty  # type: ignore[method-assign]


def _no_margin(node: MemberNode) -> None:
    """A new owner goes as far as it likes before its marker is on the disk."""
    sad = node.plane._sad
    sad.await_marker = sad.end_saving  # type: ignore[method-assign]


def _file_used_twice(node: MemberNode) -> None:
    """What has been used stays on the disk as it was, until the new owner's marker is written."""
    node.side._actions[fx.UseUp] = lambda effect: node.gateway.loop.call_soon(node.side._used_up, True)


class _Glass:
    """What seals nothing, and opens what was sealed by others."""

    def __init__(self, cipher: AESGCM) -> None:
        self._cipher = cipher

    def encrypt(self, nonce: bytes, plain: bytes, header: bytes) -> bytes:
        return plain + bytes(16)

    def decrypt(self, nonce: bytes, sealed: bytes, header: bytes) -> bytes:
        try:
            return self._cipher.decrypt(nonce, sealed, header)
        except InvalidTag:
            return sealed[:-16]


def _saved_unsealed(node: MemberNode) -> None:
    """``_through_glass`` reads what comes of it."""
    state_file = _state_file(node)
    begin = state_file._begin

    def openly() -> None:
        begin()
        seal = state_file._files[-1].seal
        seal._cipher = _Glass(seal._cipher)  # type: ignore[assignment]

    state_file._begin = openly  # type: ignore[method-assign]


def _through_glass(data: bytes, key: bytes) -> journal.Saved:
    """The file of an owner's SAs holds them in the clear."""
    cipher = journal._cipher
    with patch.object(journal, "_cipher", lambda key, salt: _Glass(cipher(key, salt))):
        return journal.read_saved(data, key)


def _not_synced(node: MemberNode) -> None:
    """A write is taken to have ended when it has begun: what it leaves of a torn tail was relied on."""
    state_file = _state_file(node)
    submit = state_file._submit

    def hasty(job: Any, done: Any) -> None:
        submit(job, lambda error: None)
        node.gateway.loop.call_soon(done, None)

    state_file._submit = hasty


def _state_file(node: MemberNode) -> StateFile:
    assert node.side.state_file is not None
    return node.side.state_file


class _MarkerNotAsked(PairMember):
    """An owner's file is believed, whatever the partner has seen."""

    def _claim_restored(self, hello: Hello, now: float) -> None:
        self._resume_restored(now)


class _WithoutTheWitness(PairMember):
    """A partner that has saved nothing is taken for one that knows of no other owner, without asking the witness."""

    def _ask_about_restored(self, now: float) -> None:
        self._resume_restored(now)


def _at_the_ceilings(data: bytes, key: bytes) -> journal.Saved:
    """Records are saved without bounds, and used at the ceilings."""
    saved = journal.read_saved(data, key)
    for record in saved.records.values():
        for child in decode_record(record).children:
            saved.bounds[child.spi_in] = child.in_ceiling, child.out_ceiling
    return saved


# Stories in which a broken cluster shows at once


def _return(world: PowerWorld) -> None:
    """The power is back, for both; somebody plays back what he has recorded."""
    for peer in world.peers:
        world.excuse(peer.site)
    for node in world.members:
        node.start()
    until_owned(world)
    world.replay()  # before child SAs are rekeyed
    traffic(world, 0.5)


def until_owned(world: PowerWorld) -> None:
    for _ in range(400):
        if world.owner is not None:
            return
        world.run(0.01)


def _forgotten_owner(world: PowerWorld) -> None:
    """The backup takes over, the power fails, and its disk is lost: the first owner's file is old."""
    owner = _owner(world)
    owner.process.kill()
    traffic(world, 2.0)
    world.cut_power()
    world.disks[1 - owner.index].lose()
    _return(world)


def _writes_take(world: PowerWorld, latency_s: float) -> None:
    for disk in world.disks:
        disk.latency_s = latency_s


def _unseen_takeover(world: PowerWorld) -> None:
    """The backup takes over and serves, and the power fails before its disk knows."""
    owner = _owner(world)
    _writes_take(world, 9.0)
    owner.process.kill()
    world.run(0.1)
    until_owned(world)
    for _ in range(5):
        world.inner_packets(60)
        world.run(0.05)
    world.cut_power()
    _writes_take(world, 0.005)
    _return(world)


def _goes_on_while_it_writes(world: PowerWorld) -> None:
    """Bursts go beyond a bound while the next one is being written, and the power fails before it is."""
    until_owned(world)
    _writes_take(world, 2.0)
    for _ in range(20):
        world.inner_packets(12)
        world.run(0.03)
    world.cut_power()
    _writes_take(world, 0.005)
    _return(world)


def _twice(world: PowerWorld) -> None:
    """The power fails a second time before the disk knows of the new owner."""
    world.cut_power()
    _writes_take(world, 2.0)
    for _ in range(2):
        _return(world)
        check_liveness(world, _owner(world))
        world.run(0.1)
        world.cut_power()
    _return(world)


def _failing_disk(world: PowerWorld) -> None:
    """The owner's disk takes nothing any more, its file stays, and the power fails."""
    disk = world.disks[_owner(world).index]
    disk.failure_chance, disk.latency_s = 1.0, 0.005
    traffic(world, 3.0)
    world.cut_power()
    disk.failure_chance = 0.0
    _return(world)


def _owner(world: PowerWorld) -> MemberNode:
    until_owned(world)
    assert world.owner is not None
    return world.owner


POWER_VARIANTS: dict[str, tuple[PowerVariant, set[str]]] = {
    variant.name: (variant, checkers)
    for variant, checkers in (
        (PowerVariant("bounds-not-enforced", prepare=_bounds_not_enforced, faults=("uneven_disks",)), {"I3"}),
        (PowerVariant("bound-before-durable", prepare=_bound_before_durable, story=_goes_on_while_it_writes), {"I3"}),
        (
            PowerVariant("writes-not-waited-for", prepare=_not_synced, faults=("slow_disks",)),
            {"I1", "I2", "I3", "I5", "lost"},  # I5: the marker that uses a file up may be what is torn
        ),
        (PowerVariant("record-without-bounds", read=_at_the_ceilings), {"I2", "I3"}),
        (PowerVariant("no-margin", prepare=_no_margin, story=_unseen_takeover), {"I3"}),
        (
            PowerVariant("marker-not-asked", _MarkerNotAsked, witness=False, story=_forgotten_owner),
            {"I1", "I2", "I3", "I4", "I5", "commit"},
        ),
        (
            PowerVariant("witness-not-asked", _WithoutTheWitness, witness=True, story=_forgotten_owner),
            {"I1", "I2", "I3", "I4", "commit"},
        ),
        (PowerVariant("file-used-twice", prepare=_file_used_twice, story=_twice), {"I1", "I2", "I3", "I5"}),
        (PowerVariant("saved-unsealed", prepare=_saved_unsealed, read=_through_glass), {"I6"}),
        (PowerVariant("freed-before-removed", prepare=_freed_before_removed, story=_failing_disk), {"I3"}),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
