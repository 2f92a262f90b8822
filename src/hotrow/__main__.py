"""`python -m hotrow` is `hotrow`."""

import sys

from hotrow.apps.cli import main

sys.exit(main())
