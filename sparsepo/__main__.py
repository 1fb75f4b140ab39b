"""``python -m sparsepo``."""

import sys

from sparsepo.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
