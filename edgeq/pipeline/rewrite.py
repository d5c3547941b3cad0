"""Put what was found out later into the report of a finished build."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import ArtifactError
from edgeq.files import stage_folder, write_atomic
from edgeq.pipeline.page import write_page
from edgeq.products import BUILD
from edgeq.report.check import read_report
from edgeq.report.schema import to_text

__all__ = ["rewrite_report"]


def rewrite_report(
    folder: Path,
    before: Mapping[str, Any],
    report: Mapping[str, Any],
    rebuild: str,
    more: Callable[[Path], Mapping[str, str]] = lambda _: {},
) -> None:
    """Put `report` in the place of `before`, the report of the build in `folder`, and render its page.

    The page names `rebuild`, the command that makes the build. `more` gives other files, by name, from the folder they
    will stand in. The folder is swapped in whole. Raises `ArtifactError`, with the folder as it was, where the build is
    no longer the one that `before` is about.
    """
    with stage_folder(folder, BUILD) as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        if read_report(staging) != before:
            raise ArtifactError(f"{folder} was built anew while what it held was measured", hint="run again")
        for name, text in {**more(staging), "report.json": to_text(report)}.items():
            write_atomic(staging / name, text)
        write_page(staging, report, folder, rebuild)
