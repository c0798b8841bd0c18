"""For all tests: trainloop first, since it sets up OpenMP before torch is loaded."""

import trainloop  # noqa: F401
