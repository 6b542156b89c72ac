"""One userspace plane as a process of its own: static keys from a JSON description on the command line.

``python plane_process.py JSON``: prints "ready", then answers each line of standard input with one line of JSON (the
plane's counters and the SAs' traffic) until the input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys

import msgspec

from ipsecha.crypto.esp_transforms import key_material_length
from ipsecha.dataplane.userspace.plane import PlaneConfig, UserspacePlane
from ipsecha.model.identity import parse_identity
from ipsecha.model.leases import FIRST_IN_CEILING, FIRST_OUT_CEILING, Leasing
from ipsecha.model.numbers import PORT_NAT_T
from ipsecha.model.policy import Authentication, ChildPolicy, Connection, DontFragment, Policy, TooBig
from ipsecha.model.proposals import ChildSuite, IkeSuite
from ipsecha.model.records import ChildSa, IkeFlag, IkeSa
from ipsecha.model.selectors import selector_from_prefix


class Events:
    """Grants leases as a prompt backup would, when there is one."""

    def __init__(self, grant_after_s: float) -> None:
        self.grant_after_s = grant_after_s
        self.plane: UserspacePlane | None = None
        self.seen: dict[str, int] = {}
        self.entries = 0

    def leases_wanted(self) -> None:
        asyncio.get_running_loop().call_soon(self._extend)

    def _extend(self) -> None:
        assert self.plane is not None
        entries = self.plane.lease_requests(asyncio.get_running_loop().time())
        self.entries += len(entries)
        asyncio.get_running_loop().call_later(self.grant_after_s, self.plane.grant, entries)

    def __getattr__(self, name: str) -> object:
        def note(*arguments: object) -> None:
            self.seen[name] = self.seen.get(name, 0) + 1

        return note


def records(what: dict[str, object]) -> tuple[Policy, IkeSa, ChildSa]:
    """Policy and records of one child SA between two gateways."""
    local_ts = tuple(map(selector_from_prefix, what["local_ts"]))  # type: ignore[arg-type]
    remote_ts = tuple(map(selector_from_prefix, what["remote_ts"]))  # type: ignore[arg-type]
    policy = ChildPolicy(
        "net", local_ts, remote_ts, (),
        dont_fragment=DontFragment(what.get("dont_fragment", "copy")),
        too_big=TooBig(what.get("too_big", "icmp")),
    )  # fmt: skip
    local, remote = str(what["local"]), str(what["remote"])
    identity = parse_identity(local)
    connection = Connection(
        "peer", (local,), (remote,), identity, None, Authentication.PSK, Authentication.PSK, (), (policy,)
    )
    suite = ChildSuite(*what["suite"])  # type: ignore[misc]
    half = key_material_length(suite)
    keys = bytes(range(half)), bytes(reversed(range(half)))
    first = bool(what["first"])
    child = ChildSa(
        "net", 0x1001 if first else 0x2002, 0x2002 if first else 0x1001, suite,
        keys[0] + keys[1] if first else keys[1] + keys[0], local_ts, remote_ts, 0.0, 0.0, 0.0,
        in_ceiling=FIRST_IN_CEILING, out_ceiling=FIRST_OUT_CEILING,
    )  # fmt: skip
    flags = IkeFlag.ENCAPSULATE if what["encapsulate"] else 0
    port = PORT_NAT_T if what["encapsulate"] else 500
    sa = IkeSa(
        bytes(8), bytes(8), first, "peer", IkeSuite(20, 128, 0, 5, 31), b"", (local, port), (remote, port),
        identity, parse_identity(remote), flags, 0.0, 0.0, 0.0, 0, 0, children=(child,),
    )  # fmt: skip
    return Policy((connection,)), sa, child


async def serve(what: dict[str, object]) -> None:
    policy, sa, child = records(what)
    events = Events(float(str(what.get("grant_after_s", 0.0005))))
    config = PlaneConfig(interface=str(what["interface"]), outer_mtu=int(str(what.get("outer_mtu", 0))))
    loop = asyncio.get_running_loop()
    plane = UserspacePlane(policy, events, lambda *_: None, config=config, clock=loop.time)
    events.plane = plane
    plane.attach(loop)
    plane.listen()
    plane.set_leasing(Leasing(what.get("leasing", "free")))
    plane.activate(1 if what["first"] else 2, 0)
    plane.install(sa, child)
    print("ready", flush=True)  # noqa: T201
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        answer = {
            "counters": msgspec.structs.asdict(plane.counters),
            "traffic": plane.traffic(child.spi_in)._asdict(),  # type: ignore[union-attr]
            "events": events.seen,
            "entries": events.entries,
        }
        print(json.dumps(answer), flush=True)  # noqa: T201
    plane.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
