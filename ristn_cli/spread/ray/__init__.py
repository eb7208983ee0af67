"""Computes the segments of a job on a Ray cluster (extra `ray`). The only package that imports Ray."""

import os

from ristn_cli.job.manifest import JobError

# Ray reads these when it is imported or starts: no usage reports, and workers without a GPU keep their
# environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# With this, any other busy program on this machine would starve the workers.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray prints pages of a dead machine's log on stdout. The pool reports what matters.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

try:
    import ray
    import ray._private.authentication.authentication_token_setup  # noqa: F401 # new in 2.52
except ImportError as error:
    raise JobError(f"a cluster needs Ray 2.52 or newer ({error}): pip install -U 'ristn[ray]'") from error

from ristn_cli.spread.ray.cluster import LOCAL, Cluster, WorkerNeeds, open_cluster, plan_for
from ristn_cli.spread.ray.ray_worker import RayWorker

__all__ = ["LOCAL", "Cluster", "RayWorker", "WorkerNeeds", "open_cluster", "plan_for"]
