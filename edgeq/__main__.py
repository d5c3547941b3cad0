"""``python -m edgeq``: the `edgeq` command, for where its script is not on PATH."""

from edgeq.cli import main

main()
