"""Write docs/build.svg: what a terminal shows of a real build of the network that ships with edgeq.

    python tools/picture.py

The build runs in an empty folder, with nothing cached. Its times are those of the machine that draws the picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ["build", "--target", "tflite-arm"]
WIDTH = 104


def run() -> str:
    """What `edgeq build` prints to a terminal, with its colours."""
    environment = os.environ | {"FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    environment["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "edgeq", *COMMAND]
        done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def draw(output: str) -> str:
    """The picture as SVG, in which the fonts are the reader's own."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))  # noqa: SIM115  # closed with the program
    console.print(Text("$ edgeq " + " ".join(COMMAND), style="bold"))
    console.print(Text.from_ansi(output.strip("\n")))
    svg = console.export_svg(title="edgeq", unique_id="edgeq")
    start, end = svg.index("@font-face"), svg.index(".edgeq-matrix")
    return svg[:start] + svg[end:]


if __name__ == "__main__":
    (ROOT / "docs" / "build.svg").write_text(draw(run()), encoding="utf-8")
