"""What every test runs under: no network, no display, two threads, and known Hypothesis profiles."""

from __future__ import annotations

import os

# Set before anything imports torch, huggingface_hub or matplotlib, and inherited by the processes that tests start.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it: a busy machine then costs little
os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

from hypothesis import HealthCheck, settings

# Examples on disk take as long as the disk wants: no deadline. CI draws the same examples every time.
_on_disk = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("dev", max_examples=25, **_on_disk)
settings.register_profile("ci", max_examples=25, derandomize=True, print_blob=True, **_on_disk)
settings.register_profile("thorough", max_examples=500, **_on_disk)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))
