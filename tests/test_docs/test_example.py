"""The examples for torch alone, on a few epochs."""

import json
import re
import runpy

import matplotlib.pyplot as plt
import pytest
import torch
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


def distil(library, batches, *models):
    """Train with the loop of an example; all weights of the student have to move."""
    pytest.importorskip(library.replace('hugging_face', 'transformers'))
    example = runpy.run_path(str(tools.ROOT / f'docs/examples/distil_{library}.py'))
    states = []
    for number in (0, 2):
        torch.manual_seed(0)
        states.append(dict(example['distil'](batches[:number], *models).named_parameters()))
    for name, before in states[0].items():
        after = states[1][name]
        assert after.isfinite().all() and not torch.equal(after, before), name


def test_torchvision_model():
    batches = [(torch.randn(2, 3, 64, 64), torch.tensor([0, 1]))] * 2
    distil('torchvision', batches, None)


def test_timm_model():
    distil('timm', [torch.randn(2, 3, 224, 224)] * 2, 'test_vit', False)


def test_hugging_face_models(tmp_path):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    small = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    configs = [
        transformers.ViTConfig(**small, image_size=32, num_labels=5),
        transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], num_labels=5),
    ]
    folders = [tmp_path / 'teacher', tmp_path / 'student']
    for config, folder in zip(configs, folders):
        transformers.AutoModelForImageClassification.from_config(config).save_pretrained(folder)
    batches = [(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]))] * 2
    distil('hugging_face', batches, *map(str, folders))


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
