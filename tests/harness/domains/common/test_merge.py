"""Adapters merged into a whole model, which further adapters can be added to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.domains.common.work.merge import merge_adapters
from sparsepo.models.adapters import add_adapters
from tests.small_models import small_model, small_tokenizer


def test_a_merged_model_is_whole_and_says_what_its_adapters_said(tmp_path: Path) -> None:
    base, run, work = (tmp_path / name for name in ("base", "run", "work"))
    tokenizer = small_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    small_model("llama").save_pretrained(base)
    loaded: Any = AutoModelForCausalLM.from_pretrained(base)
    policy: Any = add_adapters(loaded, 4, targets=["q_proj", "down_proj"])
    generator = torch.Generator().manual_seed(0)
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(generator=generator)
    policy.save_pretrained(run / "model")
    tokenizer.save_pretrained(run / "model")
    work.mkdir()
    context: Any = SimpleNamespace(inputs={"model": run}, files={}, config={}, work=work)
    merge_adapters(context)
    assert not (work / "model" / "adapter_config.json").exists()
    whole: Any = AutoModelForCausalLM.from_pretrained(work / "model")
    ids = torch.arange(1, 30)[None]
    with torch.no_grad():
        said = policy.eval()(ids).logits
        torch.testing.assert_close(whole(ids).logits, said, rtol=1e-4, atol=1e-4)
        before: Any = AutoModelForCausalLM.from_pretrained(base)
        assert (before(ids).logits - said).abs().max() > 0.1
    assert AutoTokenizer.from_pretrained(work / "model").chat_template == tokenizer.chat_template
