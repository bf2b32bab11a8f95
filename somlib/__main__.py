"""`python -m somlib` is `somlib`; under torchrun, `torchrun ... -m somlib fit ...`."""

import sys

from somlib.companion.cli import main

if __name__ == "__main__":
    sys.exit(main())
