"""Train a model with DPO on a list of dictionaries.

python examples/train_dpo.py [OUTPUT]
"""

import sys

from tiny import PAIRS, tiny_model
from transformers import AutoModelForCausalLM

from sparsepo import POConfig, POTrainer

output = sys.argv[1] if len(sys.argv) > 1 else "dpo-model"
trainer = POTrainer(
    model=tiny_model(),  # or "EleutherAI/pythia-160m"
    args=POConfig(
        output_dir=output,
        method="dpo",  # any of sparsepo.available_methods()
        beta=0.1,
        learning_rate=1e-3,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        logging_steps=2,
        report_to="none",
    ),
    train_dataset=PAIRS,
)
trainer.train()
trainer.save_model()

# The result is a plain Hugging Face model with a model card; it loads without sparsepo.
model = AutoModelForCausalLM.from_pretrained(output)
print(f"{model.num_parameters()} weights in {output}")
