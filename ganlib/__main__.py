"""``python -m ganlib``: the same as ``ganlib``."""

import sys

from ganlib.runs.cli import main

if __name__ == "__main__":
    sys.exit(main())
