"""A process that sends UDP packets at a rate: ``generator.py ADDRESS PACKETS_PER_SECOND SECONDS``.

It stands alone: it runs inside a namespace, and imports nothing that would delay its start.
"""

from __future__ import annotations

import socket
import sys
import time

PORT = 9  # discard
SIZE = 64
BURST_S = 0.002


def main(address: str, rate: float, seconds: float) -> int:
    """Sends in bursts of 2 ms; how many packets went out."""
    payload = bytes(SIZE)
    sent = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * rate) + 1
            while sent < due:
                sock.sendto(payload, (address, PORT))
                sent += 1
            time.sleep(max(BURST_S, (sent / rate) - (time.monotonic() - began) if rate < 1 / BURST_S else 0.0))
    return sent


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))}\n")
