"""Draw digits, train a NumPy net, watch it guess. `play` and all that it imports need no torch."""

import os

# A net of 16 units is too small to share: two threads of OpenBLAS would wait for each other, and
# for whatever else runs on the machine, longer than they compute. Must be set before NumPy loads.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
