"""Waiting for a device, so that a clock sees the work that was started."""


def synchronize(device: str) -> None:
    """Wait until a GPU has done its work; a CPU's work is done when its call returns.

    Args:
        device: "cpu" or "cuda".
    """
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
