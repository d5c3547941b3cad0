"""The ops of the graph, one file per family, and one namespace for all of them: `from edgeq.graph import ops`.

Each op is a frozen dataclass that checks the shapes it is given and says its traits. Loading this package registers
every family.

To add an op: a dataclass in the file of its family (`layers`, `elementwise`, `moves`, `norms`,
`attention`), and a rule in the file
of the same name in `graph/capture`, `graph/run`, `integer/reference`, and the `emit` and `reference` folders of each
format. ``python tools/places.py NAME`` lists the files where an op stands.
"""

from edgeq.graph.ops.attention import *
from edgeq.graph.ops.base import *
from edgeq.graph.ops.elementwise import *
from edgeq.graph.ops.layers import *
from edgeq.graph.ops.moves import *
from edgeq.graph.ops.norms import *
from edgeq.graph.ops.serialize import *
from edgeq.graph.ops.table import *
