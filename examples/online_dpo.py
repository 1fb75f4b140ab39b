"""Train a model on its own samples: online DPO with a reward that is a function.

python examples/online_dpo.py [OUTPUT]
"""

import sys

from tiny import PAIRS, tiny_model

from sparsepo import RolloutConfig, RolloutTrainer


def vowels(prompts, responses):
    """Return the share of vowels in each response; a reward may be anything that gives a number."""
    return [sum(map(text.count, "aeiou")) / max(len(text), 1) for text in responses]


output = sys.argv[1] if len(sys.argv) > 1 else "online-dpo-model"
trainer = RolloutTrainer(
    tiny_model(),
    vowels,
    args=RolloutConfig(
        output_dir=output,
        method="dpo",  # or ppo, grpo, f-dpg, inpo, sparsepo-common …
        beta=0.1,
        learning_rate=1e-2,
        num_train_epochs=40,
        per_device_train_batch_size=8,
        samples_per_prompt=8,
        max_new_tokens=16,
        logging_steps=4,
        report_to="none",
    ),
    train_dataset=[row["prompt"] for row in PAIRS],
)
trainer.train()
trainer.save_model()

rewards = [entry["rollout/reward"] for entry in trainer.state.log_history if "loss" in entry]
print(f"reward {rewards[0]:.2f} in the first steps, {rewards[-1]:.2f} in the last")
