"""`python -m leakbench`."""

import sys

from leakbench.commands.main import main

sys.exit(main())
