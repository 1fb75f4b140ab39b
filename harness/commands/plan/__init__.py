"""What an experiment will take, before anything is run: stages, downloads, memory, disk, hours."""
