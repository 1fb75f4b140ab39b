"""Distributed training: communication between processes, and sharded weights."""
