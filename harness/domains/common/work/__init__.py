"""Stage functions that every domain uses; they run in worker processes."""
