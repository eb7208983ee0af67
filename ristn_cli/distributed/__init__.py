"""The segments of a job over a Ray cluster (extra `ray`). The only package that knows Ray."""

from ristn_cli.distributed.cluster import LOCAL, Cluster, RayWorker, WorkerNeeds, open_cluster, plan_for

__all__ = ["LOCAL", "Cluster", "RayWorker", "WorkerNeeds", "open_cluster", "plan_for"]
