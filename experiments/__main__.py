"""`python -m experiments`: the command `taolu`."""

import sys

from experiments.cli import main

sys.exit(main())
