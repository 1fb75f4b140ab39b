"""The frozen reference: run beside the policy, or read from a cache on disk."""
