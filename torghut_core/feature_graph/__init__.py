"""Features while they are computed: a graph of nodes, one for each different value, updated batch by batch.

`plan` makes the graph of a generation out of what its strategies ask for; `graph` runs it. What can be asked for is in
`torghut_core.features`. No indicator lives here.
"""

from torghut_core.feature_graph.graph import FeatureGraph
from torghut_core.feature_graph.past_rows import PastRows, read_elsewhere, rescale_rows
from torghut_core.feature_graph.plan import FeaturePlan, Frame, Planner, Wanted, with_columns

__all__ = [
    "FeatureGraph",
    "FeaturePlan",
    "Frame",
    "PastRows",
    "Planner",
    "Wanted",
    "read_elsewhere",
    "rescale_rows",
    "with_columns",
]
