"""One folder per domain: preference data, the embedded world and its evaluation."""
