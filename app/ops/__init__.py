"""Operating a worker: checks before the start, watchdog, web endpoints, metrics, failpoints."""

import os

# prometheus_client reads these when it is imported: another program's histograms are in files of that directory, and
# ours would be there too, or fail if there is none
for _name in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
    os.environ.pop(_name, None)
