"""`python -m benchmarks.laptop`."""

import sys

from benchmarks.laptop.command import main

if __name__ == "__main__":
    sys.exit(main())
