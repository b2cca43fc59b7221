"""``python -m dquant``: the command line."""

import sys

from dquant.entrypoint import main

if __name__ == "__main__":
    sys.exit(main())
