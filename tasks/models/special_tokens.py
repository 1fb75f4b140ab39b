"""The special token of every embedded world's tokenizer."""

EOS = "<|endoftext|>"
"""End of sequence, beginning and padding, as in GPT-2, Pythia and StarCoder."""
