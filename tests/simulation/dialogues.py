"""Stories that people read: worlds without chance, in which one thing happens, told by the narrator.

Their texts stand in tests/scenarios and are compared by a test: what changes in them changes on the wire.
"""

from __future__ import annotations

import random
import textwrap
from collections.abc import Callable

from ipsecha.model.policy import Inbound
from simulation.faults import peace
from simulation.gateways import MemberNode, PeerNode
from simulation.narrator import Narrator
from simulation.violation import Violation
from simulation.world import CLUSTER_INNER, Variant, World

LONG_S = 36000.0
STEP_S = 0.0002
PATIENCE_S = 20.0
WIDTH = 120


class Calm(random.Random):
    """Everything takes as long as it usually does."""

    def random(self) -> float:
        return 0.5


class Dialogue:
    """A cluster of a and b, and one peer with one tunnel; a owns, b is in sync."""

    def __init__(self, variant: Variant | None = None) -> None:
        self.world = world = World(1, variant, peers=1)
        world.random.__class__ = Calm
        site = world.sites[0]
        site.initiates, site.both_start, site.roams, site.encapsulate, site.certificates = (
            True,
            False,
            False,
            True,
            False,
        )
        site.ike, site.esp, site.ah = "aes128gcm16-prfsha256-x25519", "aes128gcm16", ""
        site.child_rekey_s = site.ike_rekey_s = site.dpd_s = LONG_S
        site.fragment_size = 1280
        site.inbound = Inbound.STRICT
        world.network.nats.clear()
        self.narrator = Narrator(world)
        world.start((0.5,))
        world.run(1.0)
        self.narrator.begin()

    @property
    def a(self) -> MemberNode:
        return self.world.members[0]

    @property
    def b(self) -> MemberNode:
        return self.world.members[1]

    @property
    def peer(self) -> PeerNode:
        return self.world.peers[0]

    def run(self, seconds: float) -> None:
        self.world.run(seconds)

    def packets(self, count: int = 3) -> None:
        self.world.inner_packets(count)
        self.world.run(0.05)

    def until(self, text: str, seconds: float = PATIENCE_S) -> None:
        """As soon as somebody has said so.  Raises Violation where nobody does."""
        end, told = self.world.time + seconds, len(self.narrator.lines)
        while not any(text in line for line in self.narrator.lines[told:]):
            if self.world.time > end:
                raise Violation("story", f"nobody says {text!r}")
            self.world.run(STEP_S)


def planned_switchover() -> str:
    """The operator hands the tunnels from a to b. The old owner stops first and tells the exact numbers, so nothing is
    skipped and nothing is lost; then the peer rekeys with the new owner as if nothing had happened."""
    dialogue = Dialogue()
    dialogue.narrator.title("packets in both directions")
    dialogue.packets()
    dialogue.narrator.title("the operator of a: switchover")
    dialogue.a.ask(dialogue.a.member.switchover, dialogue.a.now())
    dialogue.run(0.05)
    dialogue.narrator.title("packets again: they go on where they were")
    dialogue.packets()
    dialogue.narrator.title("the peer rekeys its child SA, with b now")
    _rekey(dialogue, dialogue.peer)
    return dialogue.narrator.end()


def crash_in_mid_rekey() -> str:
    """The owner dies right after its request to rekey the child SA has left. The backup has had the record with the
    request in flight before that: it repeats the request octet for octet, and understands the answer."""
    dialogue = Dialogue()
    dialogue.packets()
    dialogue.narrator.title("a rekeys the child SA, and is killed when its request is on the way")
    for spi in list(dialogue.a.endpoint.child_index):
        dialogue.a.ask(dialogue.a.endpoint.rekey_child, spi, dialogue.a.now())
    dialogue.until("CREATE_CHILD_SA request")
    dialogue.a.process.kill()
    dialogue.until("D(")
    dialogue.run(0.05)
    dialogue.narrator.title("packets, on the new child SA")
    dialogue.packets()
    return dialogue.narrator.end()


def split_brain_and_heal() -> str:
    """The network is cut in two while both members live: two owners, for as long as that lasts, in lanes of their own;
    the peer is at a's side, and rekeys its IKE SA there. When the cut is healed b remains at once; a gives it what only
    a has, and becomes its backup. The tunnel goes on."""
    dialogue = Dialogue()
    world, site = dialogue.world, dialogue.peer.site
    dialogue.packets()
    dialogue.narrator.title("all paths between a and b are cut, and the peer reaches a")
    for path, receiver in world.synch.blocked:
        world.synch.block(path, receiver)
    world.network.sides[site.address] = dialogue.a.host
    dialogue.run(0.6)
    dialogue.narrator.title("the peer rekeys its IKE SA")
    for spi in list(dialogue.peer.endpoint.sas):
        dialogue.peer.ask(dialogue.peer.endpoint.rekey_ike, spi, dialogue.peer.now())
    dialogue.run(0.1)
    dialogue.narrator.title("packets to the peer come to both; those of the peer reach a")
    world._send(dialogue.a.host, CLUSTER_INNER, site.inner, 3)
    dialogue.packets()
    dialogue.narrator.title("the cut is healed")
    peace(world, dialogue.a)
    dialogue.run(4.0)
    dialogue.narrator.title("packets: there is one owner again, and a backup in sync")
    dialogue.packets(20)
    return dialogue.narrator.end()


def rejoin() -> str:
    """The owner dies; the backup goes on alone, and what it does meanwhile nobody else knows. The dead member returns
    with nothing: it gets a snapshot, with what changes meanwhile in between, and rekeys nothing."""
    dialogue = Dialogue()
    dialogue.packets()
    dialogue.narrator.title("a is killed")
    dialogue.a.process.kill()
    dialogue.run(0.3)
    dialogue.narrator.title("packets, and a rekey by the peer: nobody is told, nothing waits")
    dialogue.packets()
    _rekey(dialogue, dialogue.peer)
    dialogue.narrator.title("a is started again")
    dialogue.a.start()
    dialogue.run(0.5)
    dialogue.narrator.title("packets: leases again")
    dialogue.packets()
    return dialogue.narrator.end()


def lost_update_and_repair() -> str:
    """With commit = "lazy" the first step of an IKE SA after a quiet time waits for the backup, which then knows that
    more may follow; the next ones leave at once, and their records travel behind. The owner dies before the backup has
    one: it agrees on message IDs with the peer (RFC 6311) before it says anything else on the IKE SA, and rekeys the
    child SA, about which the two may differ."""
    dialogue = Dialogue(Variant("lazy", prepare=lambda node: node.gateway.commit_lazily()))
    world = dialogue.world
    world.record.violation = lambda checker, text: None  # type: ignore[method-assign] - something is lost on purpose
    dialogue.packets()
    dialogue.narrator.title("the channel becomes slow: 0.2 s; the peer rekeys its child SA")
    world.synch.delay_s = 0.2
    for spi in list(dialogue.peer.endpoint.child_index):
        dialogue.peer.ask(dialogue.peer.endpoint.rekey_child, spi, dialogue.peer.now())
    dialogue.until("cluster  INFORMATIONAL request")
    dialogue.until("INFORMATIONAL response")
    dialogue.narrator.title("a is killed; what it had sent to b is lost")
    world.synch.break_link(dialogue.a.link)
    dialogue.a.process.kill()
    world.synch.delay_s = 0.001
    dialogue.run(3.0)
    dialogue.narrator.title("packets")
    dialogue.packets(20)
    return dialogue.narrator.end()


def _rekey(dialogue: Dialogue, node: PeerNode | MemberNode) -> None:
    for spi in list(node.endpoint.child_index):
        node.ask(node.endpoint.rekey_child, spi, node.now())
    dialogue.run(0.1)


DIALOGUES: dict[str, Callable[[], str]] = {
    story.__name__: story
    for story in (planned_switchover, crash_in_mid_rekey, lost_update_and_repair, split_brain_and_heal, rejoin)
}


def told(name: str) -> str:
    """The whole text of a story's file."""
    story = DIALOGUES[name]
    about = " ".join((story.__doc__ or "").split())
    heading = name.replace("_", " ").capitalize()
    return f"{heading}\n\n{textwrap.fill(about, WIDTH)}\n\n{story().strip(chr(10))}\n"
