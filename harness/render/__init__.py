"""Tables and pictures from the JSON that a run wrote; nothing is computed here."""
