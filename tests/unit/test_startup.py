"""What a process does before it computes, in processes of their own."""

import os
import subprocess
import sys

FREEZES = """
import gc
from lofi.startup import large_imports
with large_imports("yaml"):
    import yaml
    assert not gc.isenabled()
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 1000
with large_imports("yaml"):
    import tomllib
    assert gc.isenabled()
assert gc.get_freeze_count() == frozen
"""

FAULTS = """
import resource
from lofi.startup import keep_freed_memory
keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(2**26)
before = faults()
for _ in range(10):
    bytearray(2**26)
print(faults() - before)
"""


def said(program: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=kept | environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_a_library_is_frozen_when_it_is_first_imported() -> None:
    assert said(FREEZES) == ""


def test_memory_that_was_given_back_is_used_again_unless_the_user_says_otherwise() -> None:
    given_back = int(said(FAULTS, MALLOC_MMAP_THRESHOLD_="1000000"))  # in pages of 4 KB, or of 2 MB on some machines
    assert given_back >= 10 * 2**26 // 2**21
    assert int(said(FAULTS)) < given_back / 10
