"""``python -m simulation [seeds] [--first N] [--variant NAME]``: many seeds, with progress; failing ones are shown."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from simulation.play import judged
from simulation.record import Violation


def main() -> int:
    arguments = _arguments()
    logging.getLogger("ipsecha").setLevel(logging.CRITICAL)
    began, failed, seen = time.monotonic(), Counter[str](), Counter[str]()
    for count, seed in enumerate(range(arguments.first, arguments.first + arguments.seeds), start=1):
        try:
            world = judged(seed)
            seen["datagrams"] += world.record.datagrams
            seen["packets delivered"] += world.record.deliveries
            seen["activations"] += world.failovers
            seen["runs with a split"] += world.record.has_split
        except Violation as violation:
            failed[violation.checker] += 1
            text = "\n".join(violation.__notes__) if arguments.trace else ""
            sys.stdout.write(f"\rseed {seed}: {violation}\n{text}\n" if text else f"\rseed {seed}: {violation}\n")
            if arguments.trace:
                break
        sys.stdout.write(
            f"\r{count} seeds, {count / (time.monotonic() - began):.1f} a second, {sum(failed.values())} failed "
        )
        sys.stdout.flush()
    sys.stdout.write(f"\n{dict(seen)} {dict(failed) or ''}\n")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Simulate a cluster with its peers, one world a seed.")
    parser.add_argument("seeds", type=int, nargs="?", default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--trace", action="store_true", help="stop at the first failing seed and show its trace")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
