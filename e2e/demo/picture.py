#!/usr/bin/env python3
"""Draws what a demo printed as a picture: picture.py LOG > docs/img/demo.svg

LOG is the output of `make demo > LOG`; the picture shows it line by line, cut at the width of a terminal.
"""

import html
import re
import sys

WIDTH = 150  # columns
COLOURS = [
    (r"^── .*", "#8be9fd"),
    (r"RolledBack|RollingBack", "#ff7b72"),
    (r"Promoted|Healthy", "#7ee787"),
]


def colour(line: str) -> str:
    for pattern, value in COLOURS:
        if re.search(pattern, line):
            return value
    return "#c9d1d9"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as log:
        lines = [line.rstrip("\n") for line in log]
    start = next((i for i, line in enumerate(lines) if "a clean namespace" in line), 0)
    lines = [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines[start:]]
    lines = [line for line in lines if not line.startswith("exit ")]
    height = 17 * len(lines) + 30
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * 7.3:.0f} {height}" '
        'font-family="ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="12">'
    )
    print(f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>')
    for row, line in enumerate(lines):
        text = html.escape(line)
        print(f'<text x="14" y="{27 + 17 * row}" fill="{colour(line)}" xml:space="preserve">{text}</text>')
    print("</svg>")


if __name__ == "__main__":
    main()
