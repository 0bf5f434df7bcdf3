#!/usr/bin/env python3
"""Counts the requests of a consumer, and says whether it lived through its rotations.

    LOAD | count.py NAME AGENT_LOG LINES PHASE [--seconds N]

LOAD prints a line for each request, until it is ended; LINES is a file that keeps them:

    ok server=SERIAL client=SERIAL    which certificates were seen on the wire; any names will do
    failed WHY

Exit code 0 if it was as the phase wants it; the last line is the verdict. The phases:

    rotated   every request must succeed, until each side was seen with three certificates
    refused   every request must fail: it is a stranger's
    expired   nobody renews any more: requests must fail in the end
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


class Tally:
    """What was counted so far."""

    def __init__(self) -> None:
        self.good = 0
        self.failures: list[str] = []
        self.failures_in_a_row = 0
        self.strange: list[str] = []
        # For each side, the serials that it was seen with.
        self.serials: dict[str, set[str]] = collections.defaultdict(set)

    def add(self, line: str) -> None:
        if re.fullmatch(r"ok( [\w-]+=[0-9a-fA-F]+)+", line):
            self.good += 1
            self.failures_in_a_row = 0
            for side, serial in re.findall(r" ([\w-]+)=(\w+)", line):
                self.serials[side].add(plain(serial))
        elif line.startswith("failed"):
            self.failures.append(line.removeprefix("failed").strip())
            self.failures_in_a_row += 1
        else:
            self.strange.append(line)

    def has_rotated(self) -> bool:
        return bool(self.serials) and all(len(seen) >= GENERATIONS for seen in self.serials.values())

    def is_dead(self) -> bool:
        return self.failures_in_a_row >= FAILURES

    def problems(self, phase: str, written: set[str]) -> list[str]:
        problems = [f"not a line of a load: {line}" for line in self.strange[:10]]
        if phase == "rotated":
            problems += [f"failed: {why}" for why in sorted(set(self.failures))[:10]]
            if not self.has_rotated():
                problems.append(f"not every side was seen with {GENERATIONS} certificates in time")
            for side, seen in self.serials.items():
                problems += [f"{side} showed {serial}, which the agent never wrote" for serial in seen - written]
        elif not self.is_dead():
            problems.append(f"requests did not fail: {self.good} succeeded")
        elif phase == "refused" and self.good:
            problems.append(f"{self.good} requests of a stranger were answered")
        elif phase == "expired" and not self.good:
            problems.append("no request succeeded before the certificates expired")
        return problems

    def verdict(self, phase: str) -> str:
        sides = ", ".join(f"{side} {len(seen)}" for side, seen in sorted(self.serials.items()))
        serials = len(set().union(*self.serials.values()))
        text = f"{self.good + len(self.failures)} requests, {len(self.failures)} failed, {serials} serials seen"
        if sides:
            text += f" ({sides})"
        if phase != "rotated" and self.failures:
            text += f"; the last failure: {self.failures[-1][:200]}"
        return text


def plain(serial: str) -> str:
    """One spelling of a serial: programs differ in case and in leading zeros."""
    return serial.lower().lstrip("0")


def read(tally: Tally, keep, is_enough, seconds: int) -> bool:
    """Reads until it is enough or the time is up. Did the load end by itself?"""
    deadline = time.monotonic() + seconds
    rest = b""
    while not is_enough() and (left := deadline - time.monotonic()) > 0:
        if not select.select([sys.stdin.fileno()], [], [], left)[0]:
            continue
        # Without a buffer of Python's, so that select() tells the truth.
        piece = sys.stdin.buffer.raw.read(65536)
        if not piece:
            return True
        keep.write(piece)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            tally.add(line.decode(errors="replace"))
    return False


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("agent_log", help="what the agent said: the serials that it wrote")
    parser.add_argument("lines", type=argparse.FileType("wb", 0))
    parser.add_argument("phase", choices=["rotated", "refused", "expired"])
    parser.add_argument("--seconds", type=int, default=180, help="how long it may take at most")
    args = parser.parse_args()

    tally = Tally()
    is_enough = tally.has_rotated if args.phase == "rotated" else tally.is_dead
    ended = read(tally, args.lines, is_enough, args.seconds)
    with open(args.agent_log, encoding="utf-8") as log:
        written = {plain(serial) for serial in re.findall(r'serial="?([0-9a-fA-F]+)', log.read())}
    problems = tally.problems(args.phase, written)
    if ended:
        problems.append("the load ended by itself")
    name = args.name if args.phase == "rotated" else f"{args.name} {args.phase}"
    for problem in problems:
        print(f"{name}: {problem}")
    print(f"{name}: {tally.verdict(args.phase)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
