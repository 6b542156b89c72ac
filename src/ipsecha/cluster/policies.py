"""Do both members have the same policy?  RFC 6027 section 3.1 leaves that to the administrator; this tells him.

Each member says the digest of what it has read, when the members meet and whenever it has read it again.  Nothing
depends on the answer but a report and a line in the status: during a change the two differ, and that is no fault.
"""

from __future__ import annotations

from ipsecha.cluster import frames
from ipsecha.cluster.ownership import INFO, WARNING, PairSettings
from ipsecha.cluster.switchover import Switchover
from ipsecha.model.spi import Entropy


class Policies(Switchover):
    """One of two members, as it compares what both were told to do."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        super().__init__(settings, entropy)
        self.policy_digest = b""
        self._partner_digest = b""
        self._told_of_difference = False

    @property
    def policies_differ(self) -> bool | None:
        """None: not known."""
        if not (self.policy_digest and self._partner_digest and self.channel_is_up):
            return None
        return self.policy_digest != self._partner_digest

    def has_read(self, digest: bytes) -> None:
        """This member has read its policy, at its start or again."""
        self.policy_digest = digest
        self._say_policy()
        self._compare()

    def _say_policy(self) -> None:
        if self._greeted and self.policy_digest:
            self._send(frames.PolicyDigest(self.policy_digest))

    def _on_policy(self, frame: frames.PolicyDigest, now: float) -> None:
        self._partner_digest = frame.digest
        self._compare()

    def _compare(self) -> None:
        differ = self.policies_differ
        if differ is None or differ == self._told_of_difference:
            return
        self._told_of_difference = differ
        if differ:
            self._report("policies-differ", f"{self._partner_name} has read another policy, or other secrets", WARNING)
        else:
            self._report("policies-agree", f"{self._partner_name} has read the same policy", INFO)
