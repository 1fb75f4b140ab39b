"""Pictures that only summarization draws."""
