"""The model index says what is there, in the form that mim and mmengine read."""

import re
from pathlib import Path

import pytest
from mmengine.hub import get_config
from mmengine.infer import BaseInferencer

from mmdiffkd.command_line import METHODS

from .test_tools.test_smoke import HOSTS

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / 'configs').glob('[!_]*/metafile.yml'))

modelindex = pytest.importorskip('modelindex', reason='comes with mmpretrain')


def models():
    """All models of the index, by the path of their config."""
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert index.check(silent=True) == []
    return {model.config: model for model in index.models}


MODELS = models()


def test_every_folder_has_a_metafile_in_the_index():
    folders = {path.parent for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert folders == {*FOLDERS}
    index = (ROOT / 'model-index.yml').read_text()
    assert re.findall(r'- (\S+)', index) == [
        f'configs/{folder.name}/metafile.yml' for folder in FOLDERS
    ]


def test_every_config_is_in_the_index_and_the_other_way_round():
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert MODELS.keys() == configs
    assert sorted(BaseInferencer.list_models('mmdiffkd')) == sorted(
        model.name for model in MODELS.values()
    )


@pytest.mark.parametrize('path', sorted(MODELS))
def test_facts(path):
    """What the index says of a config is what the config does and its header tells."""
    pytest.importorskip(HOSTS[re.split('[_-]', Path(path).stem)[-1]])
    model = MODELS[path]
    header = (ROOT / path).read_text().partition('\n_base_')[0]
    cfg = get_config(f'mmdiffkd::{path.partition("/")[2]}')
    # One pair of models may have a config of several methods.
    folder = Path(path).parent.name
    prefix = f'{folder}_' if folder in METHODS[1:] else ''
    assert model.name == prefix + Path(path).stem
    facts = dict(model.metadata.data)
    assert facts.pop('Training Data')
    if 'max_epochs' in cfg.train_cfg:
        assert facts.pop('Epochs') == cfg.train_cfg.max_epochs
    else:
        assert facts.pop('Iterations') == cfg.train_cfg.max_iters
    facts.pop('Training Techniques', None)
    if 'teacher' in cfg.model:
        teacher = cfg.model.teacher.config
        teacher = Path(teacher.name if isinstance(teacher, dict) else teacher)
        if teacher.is_file():
            teacher = teacher.resolve().relative_to(ROOT)
        assert facts.pop('Teacher') == str(teacher)
        assert re.search(rf'^# Student +{re.escape(facts.pop("Student"))},', header, re.MULTILINE)
    assert not facts
    assert model.weights is None
    measured = re.search(r'^# Measured +([\d.]+)', header, re.MULTILINE)
    results = [float(value) for result in model.results or () for value in result.metrics.values()]
    assert results == ([float(measured[1])] if measured else [])
