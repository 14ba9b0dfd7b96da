"""Wait for something that another process does, and never without end."""

import time


def until(is_so, seconds=60):
    """Wait until this is so; `AssertionError` where it is not after so many seconds."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so after {seconds} seconds"
        time.sleep(0.02)
