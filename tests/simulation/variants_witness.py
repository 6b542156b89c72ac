"""Pairs with a witness that are broken on purpose, in the members or in the witness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ipsecha.cluster.ownership import Role
from ipsecha.cluster.pair import PairMember
from ipsecha.cluster.witness import Kind, Ledger, Line, Request
from witness_stories import asleep_during_a_vote, refused_when_the_partner_comes_up
from witness_world import WitnessedWorld, judged

VISIBLE = frozenset({"alone", "I2", "I3", "commit"})


class VotesTwice(Ledger):
    """The witness gives the vote of an epoch to both members."""

    def _heed(self, member: str, request: Request) -> bool:
        return super()._heed(member, request) or request.kind == Kind.CLAIM


class StaleLine(Ledger):
    """A takeover is not told, and the witness does not look at what a claim is based on."""

    def _heed(self, member: str, request: Request) -> bool:
        if request.kind == Kind.CLAIM and request.epoch > self.line.epoch:
            self.line = Line(request.epoch, request.boot_id, member, request.lineage)
            return True
        return request.kind != Kind.TELL and super()._heed(member, request)


class Forgetful(WitnessedWorld):
    """What the witness has promised is not on its disk."""

    def kept(self, line: Line) -> Line:
        return Line()


class GoesOnBeforeTheVote(PairMember):
    """An owner goes on as soon as it has asked."""

    def _claim_epoch(self, now: float) -> None:
        super()._claim_epoch(now)
        if self.role is Role.ACTIVE:
            self._go_on_alone(True, now)


class TakesOverBeforeTheVote(PairMember):
    """A backup takes over as soon as it has asked."""

    def _claim_epoch(self, now: float) -> None:
        super()._claim_epoch(now)
        if self.role is Role.STANDBY and self.in_sync:
            self._take_over(True, now)


class RefusalIgnored(PairMember):
    """A member that was outvoted goes on with what it has as soon as the other is dead."""

    def _refused(self, claim: Request, now: float) -> None:
        if self.owns:
            self._step_down(Role.ISOLATED, "the witness has voted for another")

    def _at_stake(self, proof: bool) -> bool:
        return not proof and super()._at_stake(proof)


class ProofIsEnough(PairMember):
    """A member that has proof of death does not ask what the dead one had done."""

    def _at_stake(self, proof: bool) -> bool:
        return not proof and super()._at_stake(proof)


class SleepForgotten(PairMember):
    """A member that has been asleep does not ask what the other one has done meanwhile."""

    def _has_slept(self, now: float) -> bool:
        return False


class RefusalKeptSecret(PairMember):
    """A backup that the witness has refused does not tell a partner that has just come up."""

    def _hello_again(self, now: float) -> None:
        if self.role is not Role.STARTING:
            super()._hello_again(now)


class WitnessVariant(NamedTuple):
    """``types``: what is broken, by the name of the argument of ``witness_world.judged``.  ``faults``: the kinds that
    matter; or none, and a story.  ``checkers``: those that may be first."""

    name: str
    types: dict[str, Any]
    faults: tuple[str, ...]
    story: Callable[[WitnessedWorld], WitnessedWorld] | None = None
    checkers: frozenset[str] = VISIBLE

    @property
    def what(self) -> str | None:
        return next(iter(self.types.values())).__doc__


WITNESS_VARIANTS = (
    WitnessVariant("votes-twice", {"ledger": VotesTwice}, ("partition", "deaf")),
    WitnessVariant("stale-line", {"ledger": StaleLine}, ("partition", "deaf")),
    WitnessVariant(
        "forgets-at-restart", {"world": Forgetful}, ("partition", "partition", "witness restarts", "witness cut")
    ),
    WitnessVariant("goes-on-before-the-vote", {"member": GoesOnBeforeTheVote}, ("partition", "deaf")),
    WitnessVariant("takes-over-before-the-vote", {"member": TakesOverBeforeTheVote}, ("partition", "deaf")),
    WitnessVariant("refusal-ignored", {"member": RefusalIgnored}, ("partition", "crash")),
    WitnessVariant("proof-is-enough", {"member": ProofIsEnough}, ("partition", "deaf", "pause", "crash")),
    WitnessVariant("sleep-forgotten", {"member": SleepForgotten}, (), asleep_during_a_vote),
    WitnessVariant(
        "refusal-kept-secret",
        {"member": RefusalKeptSecret},
        (),
        refused_when_the_partner_comes_up,
        frozenset({"stuck"}),
    ),
)


def judged_witnessed(variant: WitnessVariant, seed: int) -> WitnessedWorld:
    """The pair of a seed, with what is broken.  Raises Violation."""
    if variant.story is not None:
        return variant.story(WitnessedWorld(seed, **variant.types))
    return judged(seed, variant.faults, **variant.types)
