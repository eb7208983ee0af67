"""Limits of control groups, read from folders that look like the kernel's."""

from pathlib import Path

import pytest

from ristn_cli.engine.cgroups import free_in_groups

MIB = 1 << 20


def write_group(folder: Path, version: int, limit: int | str, used: int, reclaimable: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")
    entry = "inactive_file" if version == 2 else "total_inactive_file"
    (folder / "memory.stat").write_text(f"anon 5\n{entry} {reclaimable}\nactive_file 7\n")


def free(root: Path, membership: str) -> int | None:
    (root / "membership").write_text(membership)
    return free_in_groups(root, root / "membership")


@pytest.mark.parametrize(
    ("version", "top", "membership"),
    [
        (2, ".", "0::/user.slice/job\n"),
        (2, "unified", "4:cpu:/elsewhere\n0::/user.slice/job\n"),
        (1, "memory", "9:cpu,cpuacct:/other\n4:hugetlb,memory:/user.slice/job\n0::/\n"),
    ],
)
def test_the_tightest_group_counts(tmp_path: Path, version: int, top: str, membership: str) -> None:
    write_group(tmp_path / top / "user.slice" / "job", version, 900 * MIB, 100 * MIB)
    write_group(tmp_path / top / "user.slice", version, 1000 * MIB, 400 * MIB)  # shared with other jobs
    assert free(tmp_path, membership) == 600 * MIB
    write_group(tmp_path / top / "user.slice" / "job", version, 300 * MIB, 100 * MIB)
    assert free(tmp_path, membership) == 200 * MIB
    write_group(tmp_path / top / "user.slice" / "other", version, 1 * MIB, 1 * MIB)  # not around this process
    assert free(tmp_path, membership) == 200 * MIB


def test_cached_files_count_as_free(tmp_path: Path) -> None:
    write_group(tmp_path / "job", 2, 500 * MIB, 400 * MIB, reclaimable=150 * MIB)
    assert free(tmp_path, "0::/job\n") == 250 * MIB
    write_group(tmp_path / "job", 2, 500 * MIB, 600 * MIB)  # above its limit for a moment
    assert free(tmp_path, "0::/job\n") == 0


@pytest.mark.parametrize(("version", "limit"), [(2, "max"), (1, 9223372036854771712)])
def test_no_limit_is_none(tmp_path: Path, version: int, limit: int | str) -> None:
    write_group(tmp_path / "memory" / "job" if version == 1 else tmp_path / "job", version, limit, 100 * MIB)
    assert free(tmp_path, "3:memory:/job\n" if version == 1 else "0::/job\n") is None


def test_a_container_sees_its_own_group_at_the_root(tmp_path: Path) -> None:
    """The path is the host's, or leads out of the container; its group is mounted at the root."""
    write_group(tmp_path / "memory", 1, 800 * MIB, 300 * MIB)
    assert free(tmp_path, "4:memory:/docker/0123456789\n") == 500 * MIB
    assert free(tmp_path, "4:memory:/../other\n") == 500 * MIB


def test_machines_without_groups_have_no_limit(tmp_path: Path) -> None:
    assert free_in_groups(tmp_path, tmp_path / "missing") is None
    assert free(tmp_path, "0::/\n") is None
