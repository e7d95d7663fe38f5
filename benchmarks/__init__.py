"""Measurements of a running server: `make bench`. Each module measures one thing and prints one table."""

import os

# As the server does (sightrank.cli): the comparison is with the same number of threads. Libraries read these once.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
