"""Claims of Tables 3, 4 and 5; the paper compares these averages without a test."""

from harness.commands.claims.claim import Claim
from harness.commands.claims.columns import TableColumn
from harness.commands.claims.predicates import All, above, every_above

_LAYERS, _DECAY, _KIND = (TableColumn(f"table{n}", "avg") for n in (3, 4, 5))
_MARGIN = 1.0
"""Points of the average within which a second layer counts as not needed [ours]."""

ABLATIONS = (
    Claim(
        "T3.all",
        "ablations",
        "Table 3",
        "Masks from all layers beat masks from the last; one feed-forward layer is enough.",
        "The average with all layers is above that with the last layer alone; there, two "
        f"feed-forward layers are less than {_MARGIN:g} point better than one.",
        All((above(_LAYERS, "all-1", "last-1"), above(_LAYERS, "last-1", "last-2", -_MARGIN))),
        _MARGIN,
    ),
    Claim(
        "T4.wd",
        "ablations",
        "Table 4",
        "A mask weight decay of 0.01, the middle of the range, is best.",
        "Its average is above that of each other weight decay.",
        every_above(
            _DECAY,
            ("decay-0.01",),
            ("decay-0", "decay-0.001", "decay-0.1", "decay-1.0"),
        ),
    ),
    Claim(
        "T5.kind",
        "ablations",
        "Table 5",
        "Learned sparse masks are better than random ones, and those better than binary ones.",
        "The averages have this order.",
        All((above(_KIND, "learned", "random"), above(_KIND, "random", "binary"))),
    ),
)
