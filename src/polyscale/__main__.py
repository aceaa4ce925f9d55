"""``python -m polyscale`` is ``polyscale``; ``torchrun -m polyscale train …`` starts it in many processes."""

import sys

from polyscale.cli import main

sys.exit(main())
