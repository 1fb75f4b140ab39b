"""The special token that every embedded world's tokenizer has."""

EOS = "<|endoftext|>"
"""End of sequence, beginning and padding at once, as GPT-2's, Pythia's and StarCoder's is."""
