"""The examples for torch alone, on a few epochs."""

import json
import re

import matplotlib.pyplot as plt
import pytest
from PIL import Image

from ..test_tools import conftest as tools

run_here = tools.run_here


@pytest.mark.slow
def test_example_trains_and_draws(run_here, tmp_path):
    figure = tmp_path / 'figure.png'
    output = run_here('docs/examples/denoise_a_student.py', '--epochs', 2, '--figure', figure)
    gammas = [float(row[1]) for row in re.findall(r'^ +(\d+) +([\d.]+) ', output, re.MULTILINE)]
    assert len(gammas) == 5 and all(0 < gamma < 1 for gamma in gammas)
    for name in ('teacher', 'student alone', 'with DiffKD'):
        assert re.search(rf'^{name} +\d+\.\d % of the test digits$', output, re.MULTILINE)
    with Image.open(figure) as picture:
        assert min(picture.size) > 400
    plt.close('all')


def test_notebook_runs(monkeypatch):
    """All code cells but the first, which installs, on a few epochs."""
    monkeypatch.setattr(plt, 'show', lambda: None)
    notebook = json.loads((tools.ROOT / 'docs/examples/distil_digits.ipynb').read_text())
    cells = [''.join(c['source']) for c in notebook['cells'] if c['cell_type'] == 'code']
    assert '%pip install' in cells[0]
    names = {}
    for cell in cells[1:]:
        exec(cell.replace('epochs=60', 'epochs=2'), names)
    assert len(names['distances']) == 20 and len(plt.get_fignums()) == 2
    plt.close('all')
