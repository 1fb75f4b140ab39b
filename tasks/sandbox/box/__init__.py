"""What runs inside a box: standard library only, loaded by path in a fresh interpreter.

Nothing here imports the rest of the project, so that neither its code nor what it holds in memory
comes near a program under test. `launcher` is the entry point.
"""
