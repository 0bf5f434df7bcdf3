#!/usr/bin/env python3
"""Checks that the lines to copy in docs/consumers are those that the tests run.

Before each code block of a page stands the file that it is from, as a comment:

    <!-- tests/consumers/envoy/etc/envoy/client.yaml -->

The block must stand in that file, line by line, apart from how far it is indented. Every consumer that
is tried must be quoted. Blocks of the language `text` are output, and not checked.
"""

import pathlib
import re
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests" / "consumers"
BLOCK = re.compile(r"(?:^<!-- (?P<file>\S+) -->\n+)?^```(?P<language>\S*)\n(?P<text>.*?)^```$", re.M | re.S)


def main() -> int:
    problems: list[str] = []
    quoted: set[str] = set()
    count = 0
    for page in sorted((ROOT / "docs" / "consumers").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            where = f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, block.start('text'))}"
            if block["language"] == "text":
                continue
            count += 1
            if not block["file"]:
                problems.append(f"{where}: no comment says which file this block is from")
                continue
            file = ROOT / block["file"]
            if not file.is_file():
                problems.append(f"{where}: {block['file']} is not there")
            elif not contains(file.read_text(encoding="utf-8"), block["text"]):
                problems.append(f"{where}: this does not stand so in {block['file']}")
            elif file.is_relative_to(TESTS):
                quoted.add(file.relative_to(TESTS).parts[0])
    for consumer in sorted(TESTS.glob("*/consumer.sh")):
        if consumer.parent.name not in quoted:
            problems.append(f"no page quotes {consumer.parent.relative_to(ROOT)}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{count} blocks of docs/consumers are what the tests run")
    return 1 if problems else 0


def contains(file: str, block: str) -> bool:
    lines, wanted = file.splitlines(), block.splitlines()
    return bool(wanted) and any(
        textwrap.dedent("\n".join(lines[start : start + len(wanted)])).splitlines() == wanted
        for start in range(len(lines) - len(wanted) + 1)
    )


if __name__ == "__main__":
    sys.exit(main())
