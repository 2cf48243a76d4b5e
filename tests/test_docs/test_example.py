"""The example for torch alone, on a few epochs."""

import re

import pytest
from PIL import Image

from ..test_tools import conftest as tools

run = tools.run


@pytest.mark.slow
def test_example_trains_and_draws(run, tmp_path):
    figure = tmp_path / 'figure.png'
    output = run('docs/examples/denoise_a_student.py', '--epochs', 2, '--figure', figure)
    gammas = [float(row[1]) for row in re.findall(r'^ +(\d+) +([\d.]+) ', output, re.MULTILINE)]
    assert len(gammas) == 5 and all(0 < gamma < 1 for gamma in gammas)
    for name in ('teacher', 'student alone', 'with DiffKD'):
        assert re.search(rf'^{name} +\d+\.\d % of the test digits$', output, re.MULTILINE)
    with Image.open(figure) as picture:
        assert min(picture.size) > 400
