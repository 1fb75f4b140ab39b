"""A DPO script for TRL, with two names replaced.

python examples/from_trl.py [OUTPUT]

- DPOTrainer → POTrainer, DPOConfig → POConfig; the arguments below are the same in both.
- `method` chooses the loss, like TRL's `loss_type`.
- The columns are TRL's: prompt, chosen, rejected; text or lists of chat messages.
- The default learning rate is 1e-6, as in TRL; the default method is sparsepo-common.
"""

import sys

from datasets import Dataset
from tiny import PAIRS, tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

# from trl import DPOConfig, DPOTrainer
from sparsepo import POConfig, POTrainer

name = tiny_model()
model = AutoModelForCausalLM.from_pretrained(name)
tokenizer = AutoTokenizer.from_pretrained(name)
dataset = Dataset.from_list(PAIRS).train_test_split(test_size=0.25, seed=42)

args = POConfig(
    output_dir=sys.argv[1] if len(sys.argv) > 1 else "trl-model",
    method="dpo",
    beta=0.1,
    learning_rate=1e-3,
    max_length=64,
    max_steps=6,
    per_device_train_batch_size=2,
    eval_strategy="steps",
    eval_steps=3,
    report_to="none",
)
trainer = POTrainer(
    model=model,
    args=args,
    train_dataset=dataset["train"],
    eval_dataset=dataset["test"],
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model(args.output_dir)
