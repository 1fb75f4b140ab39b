"""The trainer and what it is made of; import POTrainer and POConfig from sparsepo."""
