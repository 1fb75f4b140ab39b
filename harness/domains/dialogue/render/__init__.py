"""Pictures that only dialogue draws."""
