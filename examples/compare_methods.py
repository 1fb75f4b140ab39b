"""Train two methods on the same pairs and compare them on held-out pairs.

python examples/compare_methods.py [PAIRS.jsonl]
"""

import json
import sys
import tempfile
from pathlib import Path

from tiny import PAIRS, tiny_model

from sparsepo import POConfig, POTrainer
from sparsepo.data import hold_out, read_pairs

if len(sys.argv) > 1:
    file = Path(sys.argv[1])
else:
    file = Path(tempfile.mkdtemp()) / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))

data = read_pairs(file)
print(data.report)
# The split depends on pair ids, so every run holds out the same pairs; no prompt is on both sides.
training, held_out = hold_out(data, share=0.25)

model = tiny_model()
results = {}
for method in ("dpo", "sparsepo-common"):
    trainer = POTrainer(
        model=model,
        args=POConfig(
            output_dir=tempfile.mkdtemp(),
            method=method,
            learning_rate=1e-3,
            max_steps=6,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=training,
        eval_dataset=held_out,
    )
    trainer.train()
    results[method] = trainer.evaluate()

for metric in ("eval_rewards/accuracies", "eval_rewards/margins", "eval_kl/chosen"):
    row = "  ".join(f"{method} {values[metric]:.4f}" for method, values in results.items())
    print(f"{metric:<26}{row}")
