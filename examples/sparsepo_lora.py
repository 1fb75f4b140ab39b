"""Train LoRA adapters with SparsePO's learned masks, and monitor the masks' sparsity.

python examples/sparsepo_lora.py [OUTPUT]
"""

import sys

from peft import AutoPeftModelForCausalLM
from tiny import PAIRS, tiny_model

from sparsepo import POConfig, POTrainer

output = sys.argv[1] if len(sys.argv) > 1 else "lora-model"
trainer = POTrainer(
    model=tiny_model(),
    args=POConfig(
        output_dir=output,
        method="sparsepo-independent",  # one mask on the rewards, one on the KL
        l1_reward=1e-3,  # L1 weights, which push each mask towards zero
        l1_kl=1e-3,
        l1_limit="preference",  # never more than half of what the preference adds to a mask
        mask_learning_rate=1e-3,  # of the masks only
        lora_r=8,
        learning_rate=1e-3,  # of the adapters
        num_train_epochs=3,
        per_device_train_batch_size=4,
        logging_steps=2,
        report_to="none",
    ),
    train_dataset=PAIRS,
)
trainer.train()
trainer.save_model()

for entry in trainer.state.log_history:
    if "sparsity/reward/chosen" in entry:
        print(
            f"step {entry['step']}: {entry['sparsity/reward/chosen']:.0f} % of the reward mask and "
            f"{entry['sparsity/kl/chosen']:.0f} % of the KL mask are zero"
        )
# Adapters and masks are saved; the masks are not needed to use the model.
model = AutoPeftModelForCausalLM.from_pretrained(output)
print(f"adapters {', '.join(model.peft_config)} in {output}")
