"""python3 -m ledge: the command condor_ledge from a checkout."""

import sys

from ledge.cli import main

sys.exit(main())
