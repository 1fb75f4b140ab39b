"""Figure 2: ground-truth reward against response-level KL, over β, γ and training steps."""

from harness.experiments.rows import rows
from harness.experiments.spec import ColumnSpec, TableSpec

FIGURE2 = TableSpec(
    id="figure2",
    domain="sentiment",
    title="Sentiment control: the frontier of ground-truth reward and KL to the reference",
    rows=rows(),
    # One column per KL budget of the profile stands before it.
    columns=(ColumnSpec("hypervolume", "Hypervolume"),),
    baseline="dpo",
    reference="sft",
)
