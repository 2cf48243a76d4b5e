"""SIGKILL on a real run; tests/test_apis/test_resume.py has the ways in which runs differ."""

import pytest


@pytest.mark.slow
def test_killed_run_ends_as_the_unbroken_one(run, tmp_path):
    script = 'benchmarks/kill_and_resume.py'
    output = run(script, '--kills', 1, '--by', 'epochs', '--work-dir', tmp_path)
    assert ' s: identical' in output and '1 kills; all runs ended' in output
