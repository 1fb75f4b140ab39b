"""The text metrics as modules of the package evaluate: ``evaluate.load("…/modules/rouge_l")``."""
