"""Windows: every frame kept once, with its context, in bounded memory."""

import pytest

from ristn_cli.inference.windows import slide_windows


@pytest.mark.parametrize("count", range(40))
@pytest.mark.parametrize(("length", "context"), [(1, 0), (5, 2), (10, 2), (7, 0), (3, 1)])
def test_every_frame_is_kept_once_in_order(count: int, length: int, context: int) -> None:
    windows = list(slide_windows(range(count), length, context))
    assert [frame for window in windows for frame in window.frames[window.keep]] == list(range(count))
    assert all(1 <= len(window.frames) <= length for window in windows)


@pytest.mark.parametrize(("length", "context"), [(5, 2), (10, 2), (9, 3)])
def test_kept_frames_have_context_except_at_the_ends_of_the_stream(length: int, context: int) -> None:
    count = 50
    for window in slide_windows(range(count), length, context):
        for frame in window.frames[window.keep]:
            assert window.frames[0] <= max(0, frame - context)
            assert window.frames[-1] >= min(count - 1, frame + context)


@pytest.mark.parametrize(("length", "context"), [(5, 2), (10, 2), (3, 1)])
def test_a_stream_taken_up_at_any_window_goes_on_with_the_same_windows(length: int, context: int) -> None:
    windows = list(slide_windows(range(37), length, context))
    for index, window in enumerate(windows[1:], start=1):
        rest = slide_windows(range(window.frames[0], 37), length, context, continued=window.keep.start)
        assert list(rest) == windows[index:]
    assert list(slide_windows(range(context), length, context, continued=context)) == []


def test_windows_advance_by_length_less_twice_the_context() -> None:
    windows = list(slide_windows(range(22), 10, 2))
    assert [(window.frames[0], window.frames[-1]) for window in windows] == [(0, 9), (6, 15), (12, 21)]
    assert [(window.keep.start, window.keep.stop) for window in windows] == [(0, 8), (2, 8), (2, 10)]


def test_reads_no_further_ahead_than_one_window_and_a_frame() -> None:
    read = 0

    def frames():
        nonlocal read
        for index in range(1000):
            read += 1
            yield index

    for window in slide_windows(frames(), 8, 2):
        assert read <= window.frames[0] + 9


def test_a_window_that_would_keep_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="keeps nothing"):
        list(slide_windows(range(3), 4, 2))
