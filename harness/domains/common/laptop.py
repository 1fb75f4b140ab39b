"""What the domains' profiles `laptop` have in common."""

from __future__ import annotations

from harness.config.profiles import TrainingSettings


def adapter_training(max_length: int, max_prompt_length: int) -> TrainingSettings:
    """Return how LoRA adapters of a model of the Llama family are trained; every value [ours].

    Args:
        max_length: tokens of a prompt with one response, at most.
        max_prompt_length: tokens of a prompt, at most.
    """
    return TrainingSettings(
        learning_rate=2e-4,
        epochs=1,
        batch_size=16,
        device_batch_size=4,
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        logging_steps=1,
        save_steps=8,
        lora_r=16,
        lora_alpha=32,
        lora_dropout=0.0,
        lora_targets="q_proj+k_proj+v_proj+o_proj+gate_proj+up_proj+down_proj",
    )
