#!/usr/bin/env python3
"""Counts the requests of a consumer, and says whether it lived through its rotations.

    LOAD | count.py NAME AGENT_LOG LINES            every request must succeed, until each side
                                                    was seen with three certificates
    LOAD | count.py NAME AGENT_LOG LINES --broken   nobody renews any more: requests must fail

LOAD prints a line for each request, until it is ended; LINES is a file that keeps them:

    ok server=SERIAL client=SERIAL    which certificates were seen on the wire; any names will do
    failed WHY

Exit code 0 if it was as it must be. The last line is the verdict.
"""

import argparse
import collections
import re
import select
import sys
import time

# The first, and two rotations.
GENERATIONS = 3
# Failures in a row after which nothing is alive any more.
FAILURES = 3


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("agent_log", help="what the agent said: the serials that it wrote")
    parser.add_argument("lines", type=argparse.FileType("wb", 0))
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--seconds", type=int, default=180, help="how long it may take at most")
    args = parser.parse_args()

    tally = Tally()
    deadline = time.monotonic() + args.seconds
    # Lines are read without a buffer of Python's, so that select() tells the truth.
    rest = b""
    ended = False
    while not (tally.is_dead() if args.broken else tally.has_rotated()):
        left = deadline - time.monotonic()
        if left <= 0 or ended:
            break
        if not select.select([sys.stdin.fileno()], [], [], left)[0]:
            continue
        piece = sys.stdin.buffer.raw.read(65536)
        ended = not piece
        args.lines.write(piece or b"")
        *lines, rest = (rest + (piece or b"")).split(b"\n")
        for line in lines:
            tally.add(line.decode(errors="replace"))

    problems = tally.problems_broken() if args.broken else tally.problems(args.agent_log)
    if ended and problems:
        problems.append("the client ended by itself")
    for problem in problems:
        print(f"{args.name}: {problem}")
    if args.broken:
        why = tally.failures[-1].removeprefix("failed")[:160] if tally.failures else ""
        print(f"{args.name} without an agent: {tally.verdict()}; the last failure:{why}")
    else:
        print(f"{args.name}: {tally.verdict()}")
    return 1 if problems else 0


class Tally:
    """What was counted so far."""

    def __init__(self) -> None:
        self.good = 0
        self.failures: list[str] = []
        self.failures_in_a_row = 0
        self.strange: list[str] = []
        # For each side, its serials and how often each was seen.
        self.serials: dict[str, collections.Counter[str]] = {}

    def add(self, line: str) -> None:
        if line.startswith("ok "):
            seen = dict(part.partition("=")[::2] for part in line.split()[1:])
            if seen and all(re.fullmatch("[0-9a-fA-F]+", serial) for serial in seen.values()):
                self.good += 1
                self.failures_in_a_row = 0
                for side, serial in seen.items():
                    self.serials.setdefault(side, collections.Counter())[plain(serial)] += 1
                return
        if line.startswith("failed"):
            self.failures.append(line)
            self.failures_in_a_row += 1
        else:
            self.strange.append(line)

    def has_rotated(self) -> bool:
        return bool(self.serials) and all(len(seen) >= GENERATIONS for seen in self.serials.values())

    def is_dead(self) -> bool:
        return self.failures_in_a_row >= FAILURES

    def problems(self, agent_log: str) -> list[str]:
        with open(agent_log, encoding="utf-8") as log:
            written = {plain(serial) for serial in re.findall(r"serial=\"?([0-9a-fA-F]+)", log.read())}
        problems = sorted(set(self.failures))[:10] + self.strange_lines()
        if not self.has_rotated():
            problems.append(f"not every side was seen with {GENERATIONS} certificates in time")
        for side, seen in self.serials.items():
            for serial in seen.keys() - written:
                problems.append(f"{side} showed {serial}, which the agent never wrote")
        return problems

    def problems_broken(self) -> list[str]:
        if not self.is_dead():
            return ["the certificates expired, and requests did not fail: this count cannot fail"]
        if not self.good:
            return ["no request succeeded before the certificates expired"] + self.failures[:3]
        return self.strange_lines()

    def strange_lines(self) -> list[str]:
        return [f"not a line of a load: {line}" for line in self.strange[:10]]

    def verdict(self) -> str:
        sides = ", ".join(f"{side} {len(seen)}" for side, seen in sorted(self.serials.items()))
        distinct = {serial for seen in self.serials.values() for serial in seen}
        return (
            f"{self.good + len(self.failures)} requests, {len(self.failures)} failed, "
            f"{len(distinct)} serials seen ({sides})"
        )


def plain(serial: str) -> str:
    """One spelling of a serial: programs differ in case and in leading zeros."""
    return serial.lower().lstrip("0")


if __name__ == "__main__":
    sys.exit(main())
