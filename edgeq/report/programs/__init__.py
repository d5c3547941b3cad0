"""Programs that run the file of a build in an app, with nothing of edgeq: what `edgeq use` prints.

Each language has a template in this folder. A report may come from a stranger, so everything in it passes through a
filter that writes it as a literal of the language, or as a comment of one line.
"""

from edgeq.report.programs.render import LANGUAGES, Program, program, programs

__all__ = ["LANGUAGES", "Program", "program", "programs"]
