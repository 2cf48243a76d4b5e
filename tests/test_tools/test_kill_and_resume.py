"""SIGKILL on a real run; tests/test_apis/test_resume.py has the ways in which runs differ."""

import re

import pytest


@pytest.mark.slow
def test_killed_run_ends_as_the_unbroken_one(run, tmp_path):
    output = run(
        'benchmarks/experiments/kill_and_resume.py', '--kills', 1, '--by', 'epochs',
        '--work-dir', tmp_path,
    )  # fmt: skip
    assert re.search(r'by epochs, killed after [\d.]+ s: identical', output)
    assert 'DIFFERENT' not in output
