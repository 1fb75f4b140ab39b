"""Pictures that only sentiment draws."""
