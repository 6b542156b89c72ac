"""Choice of algorithms (RFC 7296 sections 2.7 and 3.3.6): the responder's choice, the initiator's check of the answer.

The order of the own configuration decides.  Among acceptable key exchange methods the one whose public value the
initiator has sent already wins, which saves a round trip.  Choices are memoised on the octets of the offer without its
SPIs: a thousand clients of one make offer the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, NamedTuple, TypeVar

from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import Notify, Protocol, TransformType
from ipsecha.model.policy import Connection
from ipsecha.model.proposals import ChildSuite, IkeSuite, Proposal, Transform
from ipsecha.wire.payloads.sa import build_sa, parse_sa

SPI_OFFSET = 8  # of the SPI in a proposal; its length stands at offset 6
MAX_OFFERS = 64  # proposals of a peer that are looked at, in its order of preference
MEMO_LIMIT = 4096
KNOWN_TYPES = frozenset(int(kind) for kind in TransformType)

Suite = TypeVar("Suite", IkeSuite, ChildSuite)


class Choice(NamedTuple, Generic[Suite]):
    """What the responder chose: ``number`` and ``transforms`` are those of the proposal to answer with."""

    suite: Suite
    number: int
    transforms: tuple[Transform, ...]


def number_proposals(proposals: tuple[Proposal, ...], spi: bytes, *, key_exchange: bool = True) -> tuple[Proposal, ...]:
    """The initiator's offer: numbered from 1, each with our ``spi``; without ``key_exchange`` the KE transforms are
    left out, as in IKE_AUTH (RFC 7296 section 1.2).  Offers that become equal by that are sent once."""
    offers: list[tuple[int, tuple[Transform, ...]]] = []
    for proposal in proposals:
        transforms = proposal.transforms
        if not key_exchange:
            transforms = tuple(transform for transform in transforms if transform.type != TransformType.KE)
        if (proposal.protocol, transforms) not in offers:
            offers.append((proposal.protocol, transforms))
    return tuple(
        Proposal(number, protocol, spi, transforms) for number, (protocol, transforms) in enumerate(offers, start=1)
    )


def choose_ike_suite(
    offer: tuple[Proposal, ...], policy: tuple[Proposal, ...], group_hint: int = 0
) -> Choice[IkeSuite] | None:
    """The responder's choice for an IKE SA, or None: NO_PROPOSAL_CHOSEN.

    ``group_hint`` is the group of the initiator's KE payload.  Where the chosen suite has another group, the answer is
    INVALID_KE_PAYLOAD with the suite's group.
    """
    chosen = _choose(offer, policy, group_hint, key_exchange=True)
    if chosen is None or not all(_of(chosen.transforms, kind) for kind in (TransformType.PRF, TransformType.KE)):
        return None
    return Choice(_ike_suite(chosen.transforms), chosen.number, chosen.transforms)


def choose_child_suite(
    offer: tuple[Proposal, ...], policy: tuple[Proposal, ...], group_hint: int = 0, *, key_exchange: bool = True
) -> tuple[Choice[ChildSuite], bytes] | None:
    """The responder's choice for a child SA and the initiator's SPI (4 octets) in it, or None: NO_PROPOSAL_CHOSEN.

    Without ``key_exchange`` (IKE_AUTH) the KE transforms of both sides are ignored.
    """
    offer = tuple(proposal for proposal in offer if len(proposal.spi) == 4)
    chosen = _choose(offer, policy, group_hint, key_exchange=key_exchange)
    if chosen is None:
        return None
    return Choice(_child_suite(chosen), chosen.number, chosen.transforms), chosen.spi


def accept_ike_answer(answer: tuple[Proposal, ...], offer: tuple[Proposal, ...]) -> tuple[IkeSuite, bytes]:
    """The suite and the SPI in the responder's ``answer`` to our ``offer``.

    Raises PeerError(NO_PROPOSAL_CHOSEN) where the answer is not one choice out of the offer (section 3.3.6).
    """
    chosen = _check_answer(answer, offer)
    if not all(_of(chosen.transforms, kind) for kind in (TransformType.PRF, TransformType.KE)):
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, "the peer's answer lacks a PRF or a key exchange")
    return _ike_suite(chosen.transforms), chosen.spi


def accept_child_answer(answer: tuple[Proposal, ...], offer: tuple[Proposal, ...]) -> tuple[ChildSuite, bytes]:
    """As accept_ike_answer, for a child SA; the SPI has 4 octets."""
    chosen = _check_answer(answer, offer)
    if len(chosen.spi) != 4:
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, "the peer's answer bears no SPI")
    return _child_suite(chosen), chosen.spi


def suite_allowed(suite: IkeSuite, policy: tuple[Proposal, ...]) -> bool:
    """Whether a connection's proposals contain ``suite`` (the responder learns late which connection is meant)."""
    transforms = suite.transforms()
    return any(
        all(transform in proposal.transforms for transform in transforms)
        and (suite.integ != 0 or not proposal.of_type(TransformType.INTEG))
        for proposal in policy
    )


def _of(transforms: tuple[Transform, ...], kind: int) -> Transform | None:
    for transform in transforms:
        if transform.type == kind:
            return transform
    return None


def _choose(
    offer: tuple[Proposal, ...], policy: tuple[Proposal, ...], group_hint: int, *, key_exchange: bool
) -> Proposal | None:
    for wanted in policy:
        for offered in offer:
            if wanted.protocol != offered.protocol:
                continue
            transforms = _match(offered, wanted, group_hint, key_exchange=key_exchange)
            if transforms is not None:
                return Proposal(offered.number, offered.protocol, offered.spi, transforms)
    return None


def _match(offered: Proposal, wanted: Proposal, group_hint: int, *, key_exchange: bool) -> tuple[Transform, ...] | None:
    """One transform of each type that is on offer, or None.  NONE (0) makes a type optional (section 3.3.3), and an
    offer without ESN means "no ESN"."""
    result: list[Transform] = []
    types = dict.fromkeys(transform.type for transform in (*offered.transforms, *wanted.transforms))
    if not KNOWN_TYPES.issuperset(types):
        return None  # a type that is not understood makes the proposal unacceptable (section 3.3.6)
    for kind in types:
        if kind == TransformType.KE and not key_exchange:
            continue
        theirs = offered.of_type(kind)
        ours = wanted.of_type(kind)
        if kind == TransformType.KE and group_hint:
            ours = tuple(sorted(ours, key=lambda transform: transform.id != group_hint))
        choice = _pick(theirs, ours)
        if choice is None:
            return None
        if theirs:
            result.append(choice)
    return tuple(result)


def _pick(theirs: tuple[Transform, ...], ours: tuple[Transform, ...]) -> Transform | None:
    kind = (theirs or ours)[0].type
    none = Transform(kind, 0)
    optional = kind in (TransformType.INTEG, TransformType.KE, TransformType.ESN)
    for transform in ours or (none,):
        if transform in theirs or (transform == none and optional and not theirs):
            return transform
    return None


def _check_answer(answer: tuple[Proposal, ...], offer: tuple[Proposal, ...]) -> Proposal:
    if len(answer) == 1:
        chosen = answer[0]
        kinds = [transform.type for transform in chosen.transforms]
        for offered in offer:
            if offered.number != chosen.number or offered.protocol != chosen.protocol:
                continue
            wanted = {t.type for t in offered.transforms} - _optional(offered)
            if (
                len(set(kinds)) == len(kinds)
                and wanted <= set(kinds)
                and all(transform in offered.transforms or _is_none(transform) for transform in chosen.transforms)
            ):
                return chosen
    raise PeerError(Notify.NO_PROPOSAL_CHOSEN, "the peer's answer is not a choice out of our proposals")


def _optional(offered: Proposal) -> set[int]:
    """The types that an answer may leave out."""
    return {transform.type for transform in offered.transforms if transform.id == 0}


def _is_none(transform: Transform) -> bool:
    return transform == (TransformType.INTEG, 0, 0)


def _ike_suite(transforms: tuple[Transform, ...]) -> IkeSuite:
    encr, integ = _of(transforms, TransformType.ENCR), _of(transforms, TransformType.INTEG)
    prf, group = _of(transforms, TransformType.PRF), _of(transforms, TransformType.KE)
    assert encr is not None
    assert prf is not None
    assert group is not None
    # plain integers: suites are compared and encoded all the time
    return IkeSuite(int(encr.id), encr.key_bits, int(integ.id) if integ else 0, int(prf.id), int(group.id))


def _child_suite(chosen: Proposal) -> ChildSuite:
    encr, integ = _of(chosen.transforms, TransformType.ENCR), _of(chosen.transforms, TransformType.INTEG)
    group, esn = _of(chosen.transforms, TransformType.KE), _of(chosen.transforms, TransformType.ESN)
    return ChildSuite(
        protocol=int(chosen.protocol),
        encr=int(encr.id) if encr else 0,
        key_bits=encr.key_bits if encr else 0,
        integ=int(integ.id) if integ else 0,
        group=int(group.id) if group else 0,
        esn=esn is not None and esn.id == 1,
    )


class ChildChoice(NamedTuple):
    """A memoised choice for a child SA with the SA payload that answers it, cut where our SPI goes."""

    suite: ChildSuite
    spi_at: int  # where the initiator's SPI stands in the SA payload's body
    before_spi: bytes
    after_spi: bytes


class SuiteMemo:
    """The choices made so far, by the octets of the offer and the name of the policy; bounded: starts afresh when
    full.  To be dropped whenever the policy changes."""

    def __init__(self) -> None:
        self._ike: dict[Hashable, tuple[IkeSuite, bytes] | None] = {}
        self._child: dict[Hashable, ChildChoice | None] = {}
        self._allowed: dict[tuple[IkeSuite, str], bool] = {}

    def ike(
        self, body: bytes, group_hint: int, policy_name: Hashable, policy: tuple[Proposal, ...]
    ) -> tuple[IkeSuite, bytes] | None:
        """The suite for an IKE_SA_INIT request's SA payload and the body of the answering one, or None.

        Raises WireError for a payload that is malformed.
        """
        key = (body, group_hint, policy_name)
        try:
            return self._ike[key]
        except KeyError:
            pass
        offer = tuple(proposal for proposal in parse_sa(body)[:MAX_OFFERS] if not proposal.spi)
        choice = choose_ike_suite(offer, policy, group_hint)
        answer = None
        if choice is not None:
            answer = choice.suite, build_sa((Proposal(choice.number, Protocol.IKE, b"", choice.transforms),))
        if len(self._ike) >= MEMO_LIMIT:
            self._ike.clear()
        self._ike[key] = answer
        return answer

    def allowed(self, suite: IkeSuite, connection: Connection) -> bool:
        """As suite_allowed, for a connection's proposals."""
        key = (suite, connection.name)
        found = self._allowed.get(key)
        if found is None:  # there are not more keys than connections times suites
            found = self._allowed[key] = suite_allowed(suite, connection.proposals)
        return found

    def child(self, body: bytes, policy_name: Hashable, policy: tuple[Proposal, ...]) -> ChildChoice | None:
        """The choice for the SA payload of an IKE_AUTH request, or None.  Raises WireError when malformed."""
        key = (_without_spis(body), policy_name)
        try:
            return self._child[key]
        except KeyError:
            pass
        found = choose_child_suite(parse_sa(body)[:MAX_OFFERS], policy, key_exchange=False)
        answer = None
        if found is not None:
            choice = found[0]
            sa = build_sa((Proposal(choice.number, choice.suite.protocol, bytes(4), choice.transforms),))
            answer = ChildChoice(choice.suite, _spi_offset(body, choice.number), sa[:SPI_OFFSET], sa[SPI_OFFSET + 4 :])
        if len(self._child) >= MEMO_LIMIT:
            self._child.clear()
        self._child[key] = answer
        return answer


def _without_spis(body: bytes) -> bytes:
    """The octets of an SA payload without its proposals' SPIs.  A malformed payload yields some other octets, never
    those of a sound one: the lengths stay in."""
    if len(body) >= SPI_OFFSET and not body[0]:
        return body[:SPI_OFFSET] + body[SPI_OFFSET + body[6] :]
    parts: list[bytes] = []
    offset = 0
    while offset + SPI_OFFSET <= len(body):
        length = int.from_bytes(body[offset + 2 : offset + 4], "big")
        if length < SPI_OFFSET:
            break
        parts.append(body[offset : offset + SPI_OFFSET])
        parts.append(body[offset + SPI_OFFSET + body[offset + 6] : offset + length])
        offset += length
    parts.append(body[offset:])
    return b"".join(parts)


def _spi_offset(body: bytes, number: int) -> int:
    """Where the SPI of the proposal ``number`` of a sound SA payload stands."""
    offset = 0
    while body[offset + 4] != number:
        offset += int.from_bytes(body[offset + 2 : offset + 4], "big")
    return offset + SPI_OFFSET
