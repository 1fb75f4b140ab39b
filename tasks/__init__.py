"""One folder per domain: preference data, the embedded miniature world and its evaluation."""
