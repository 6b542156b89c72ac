"""All clusters that are broken on purpose, at every level of simulation: who finds them, and how soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from ipsecha.cluster.journal import read_saved
from ipsecha.cluster.pair import PairMember
from ipsecha.cluster.seating import SeatedMember
from ipsecha.ike.endpoint import IkeEndpoint
from simulation import boundaries, seats
from simulation.full_variants import FULL_VARIANTS
from simulation.lazy import LazyVariant, LazyWorld, judged_lazily
from simulation.play import judged
from simulation.power import PowerVariant, PowerWorld
from simulation.power_cuts import judged_power
from simulation.variants_giving_back import GIVING_BACK_CHECKERS, GIVING_BACK_VARIANTS, judged_giving_back
from simulation.variants_handshakes import HANDSHAKE_VARIANTS, HANDSHAKES
from simulation.variants_lazy import LAZY_VARIANTS
from simulation.variants_mirrors import MIRROR_VARIANTS, judged_mirrors
from simulation.variants_pair import PAIR_VARIANTS, judged_pair, spoken
from simulation.variants_power import POWER_VARIANTS
from simulation.variants_seats import SEAT_VARIANTS
from simulation.variants_witness import WITNESS_VARIANTS, judged_witnessed
from simulation.violation import Violation
from simulation.world import Variant, World

SEEDS = 500


class Broken(NamedTuple):
    """``checkers``: those that may be the first to notice.  ``judge``: plays a seed, raises Violation."""

    level: str
    name: str
    what: str
    checkers: frozenset[str]
    judge: Callable[[int], object]


class Finding(NamedTuple):
    """``seeds``: so many were needed; ``checker``: "" where nothing was found."""

    checker: str
    seeds: int


def first_finding(broken: Broken, seeds: int = SEEDS) -> Finding:
    for seed in range(seeds):
        try:
            broken.judge(seed)
        except Violation as violation:
            return Finding(violation.checker, seed + 1)
    return Finding("", seeds)


def _first_sentence(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split()).rstrip(".")


def _what(variant: Variant) -> str:
    """The docstring of whatever is broken in it."""
    if variant.endpoint is not IkeEndpoint:
        return _first_sentence(variant.endpoint.__doc__)
    if variant.member not in (PairMember, SeatedMember):
        return _first_sentence(variant.member.__doc__)
    return _first_sentence(variant.prepare.__doc__)


def _handshakes(seed: int, variant: Variant) -> World:
    """A walk along the boundaries of a handshake."""
    return boundaries.replayed(boundaries.draw(seed, ("crash",), HANDSHAKES), variant)


def _lazily(seed: int, variant: LazyVariant) -> LazyWorld:
    return judged_lazily(seed, variant)


def _powered(seed: int, variant: PowerVariant) -> PowerWorld:
    return judged_power(seed, variant)


def _what_of_power(variant: PowerVariant) -> str:
    return _what(variant) if variant.read is read_saved else _first_sentence(variant.read.__doc__)


def _all() -> Iterator[Broken]:
    for name, (variant, checkers) in FULL_VARIANTS.items():
        yield Broken("full", name, _what(variant), frozenset(checkers), partial(judged, variant=variant))
    for name, (variant, checkers) in HANDSHAKE_VARIANTS.items():
        yield Broken("boundaries", name, _what(variant), frozenset(checkers), partial(_handshakes, variant=variant))
    for name, (powered, checkers) in POWER_VARIANTS.items():
        yield Broken("power", name, _what_of_power(powered), frozenset(checkers), partial(_powered, variant=powered))
    for name, (hasty, checkers) in LAZY_VARIANTS.items():
        yield Broken("lazy", name, _what(hasty), frozenset(checkers), partial(_lazily, variant=hasty))
    for name, (variant, checkers) in SEAT_VARIANTS.items():
        yield Broken("seats", name, _what(variant), frozenset(checkers), partial(seats.judged, variant=variant))
    for one in WITNESS_VARIANTS:
        yield Broken("witness", one.name, _first_sentence(one.what), one.checkers, partial(judged_witnessed, one))
    for mirrored in MIRROR_VARIANTS:
        yield Broken(
            mirrored.level,
            mirrored.name,
            _first_sentence(mirrored.broken.__doc__),
            frozenset(mirrored.checkers),
            partial(judged_mirrors, mirrored),
        )
    for broken in PAIR_VARIANTS:
        member, checkers, _ = broken
        yield Broken(
            "pair",
            spoken(member.__name__),
            _first_sentence(member.__doc__),
            frozenset(checkers),
            partial(judged_pair, broken),
        )
    for gateway in GIVING_BACK_VARIANTS:
        yield Broken(
            "pair",
            spoken(gateway.__name__),
            _first_sentence(gateway.__doc__),
            frozenset(GIVING_BACK_CHECKERS),
            partial(judged_giving_back, gateway=gateway),
        )


BROKEN: dict[str, Broken] = {f"{one.level}/{one.name}": one for one in _all()}
