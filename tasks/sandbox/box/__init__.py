"""What runs inside a box: standard library only, loaded by path in a fresh interpreter.

Nothing here imports the rest of the project, which keeps its code and memory away from the programs
under test. `launcher` is the entry point.
"""
