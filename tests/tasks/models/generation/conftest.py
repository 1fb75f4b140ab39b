from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tasks.models.base_config import BaseModelConfig
from tasks.models.base_model import build_model, train_tokenizer


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with random weights, whose responses end with EOS now and then."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["A dog can bark at me. Why?"] * 9, 290, 96)
    torch.manual_seed(0)
    config = BaseModelConfig(layers=1, width=32, heads=2, context=96, initializer_range=0.5)
    build_model(config, tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
