"""All claims, in the paper's order."""

from harness.commands.claims.claim import Claim
from harness.commands.claims.statements.ablations import ABLATIONS
from harness.commands.claims.statements.code import CODE
from harness.commands.claims.statements.dialogue import DIALOGUE
from harness.commands.claims.statements.masks import MASKS
from harness.commands.claims.statements.sentiment import SENTIMENT
from harness.commands.claims.statements.summarization import SUMMARIZATION

CLAIMS: tuple[Claim, ...] = (
    *SENTIMENT,
    *MASKS,
    *DIALOGUE,
    *SUMMARIZATION,
    *CODE,
    *ABLATIONS,
)
