"""The stage graph: addresses, the store, the engines that run stages, progress."""
