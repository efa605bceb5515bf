"""`python -m fmedge` is the `fmedge` command."""

import sys

from fmedge.cli import main

sys.exit(main())
