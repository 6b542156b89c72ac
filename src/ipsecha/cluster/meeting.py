"""Two members say hello: which of them goes on, with which records?

Both read the same two hellos and come to opposite conclusions, whatever happened before.

* Two owners (they were cut off from each other): the one whose records go back to the older cold start, then the one
  with the higher epoch.  A member that came up alone, and empty, must not sweep away the SAs of one that has served for
  days.
* One owner: it stays.
* No owner: the records of the highest epoch; of the same epoch the owner's own before its backup's, and those on a
  disk, which are a moment older, behind both; then the first member, with nothing.

Epochs only grow: where the owner that stays has the lower epoch, it takes a new one, and the other waits for that.
"""

from __future__ import annotations

from enum import Enum

from ipsecha.cluster.frames import Hello

OWNER = 2
"""``Hello.state_rank`` of who owns the records, or did last."""


class Verdict(Enum):
    STAY = "stay"  # the owner, as before
    RECLAIM = "reclaim"  # the owner, under a new epoch
    FOLLOW = "follow"  # the other is owner: become its backup
    WAIT = "wait"  # the other will be owner, and say so
    CLAIM = "claim"  # nobody is owner, and it is for us to be


def outranks(mine: tuple[int, int], theirs: tuple[int, int]) -> bool:
    """Of two owners, each given as (lineage, epoch): whether the first one stays."""
    return (-mine[0], mine[1]) > (-theirs[0], theirs[1])


def judge(mine: Hello, theirs: Hello, voted: bool = False) -> Verdict:
    """What the sender of ``mine`` has to do when it reads ``theirs``.

    ``voted``: a witness decides who goes on alone, so an owner whose records are older than those of a former owner has
    been outvoted, and does not know it yet.
    """
    i_own = mine.active and not (voted and _outvoted(mine, theirs))
    they_own = theirs.active and not (voted and _outvoted(theirs, mine))
    if i_own and (not they_own or outranks((mine.lineage, mine.epoch), (theirs.lineage, theirs.epoch))):
        return Verdict.STAY if mine.epoch >= theirs.epoch else Verdict.RECLAIM
    if they_own:
        return Verdict.FOLLOW if theirs.epoch >= mine.epoch else Verdict.WAIT
    return Verdict.CLAIM if _claim(mine) > _claim(theirs) else Verdict.WAIT


def _outvoted(owner: Hello, other: Hello) -> bool:
    had_the_vote = other.state_rank == OWNER and not other.active and other.epoch > owner.epoch
    return had_the_vote and other.lineage == owner.lineage


def _claim(hello: Hello) -> tuple[int, int, int]:
    rank = 0 if hello.from_disk else hello.state_rank
    return (hello.epoch if hello.state_rank else -1, rank, -hello.member_index)
