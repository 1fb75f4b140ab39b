"""Print a token map of a pair under a trained model: log-ratio, KL, mask and contribution.

python examples/token_maps.py [OUTPUT]

`python -m sparsepo inspect` draws the same values as a page.
"""

import sys

from tiny import PAIRS, tiny_model

from sparsepo import POConfig, POTrainer, PreferencePair
from sparsepo.analysis import token_maps
from sparsepo.analysis.trained import load_trained

output = sys.argv[1] if len(sys.argv) > 1 else "masked-model"
trainer = POTrainer(
    model=tiny_model(),
    args=POConfig(
        output_dir=output,
        method="sparsepo-common",
        learning_rate=1e-3,
        max_steps=6,
        report_to="none",
    ),
    train_dataset=PAIRS,
)
trainer.train()
trainer.save_model()

pair = PreferencePair("mine", "Tell me about the sea.", " I like the sea.", " No.")
maps = token_maps(load_trained(output), [pair]).maps
chosen = maps.pairs[0].chosen
print(f"{'token':>10} {'log-ratio':>10} {'KL':>10} {'mask':>10} {'adds':>10}")
for token, ratio, kl, mask, part in zip(
    chosen.tokens,
    chosen.log_ratios,
    chosen.kl,
    chosen.reward_mask,
    chosen.contributions,
    strict=True,
):
    print(f"{token!r:>10} {ratio:10.4f} {kl:10.4f} {mask:10.4f} {part:10.4f}")
print(f"{maps.reward_sparsity.chosen:.0f} % of the chosen response's mask values are zero")
