from pathlib import Path

from mmdiffkd.engine.hooks import TrimMemoryHook


def resident_megabytes():
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096 / 2**20


def test_freed_memory_goes_back():
    blocks = [bytearray(b'x' * 60_000) for _ in range(4000)]
    last = blocks[-1]  # keeps the heap from shrinking by itself
    del blocks[:-1], blocks
    before = resident_megabytes()
    TrimMemoryHook().before_val_epoch(runner=None)
    assert before - resident_megabytes() > 100
    assert len(last) == 60_000
