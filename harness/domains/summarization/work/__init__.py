"""Stage functions of summarization; they run in worker processes."""
