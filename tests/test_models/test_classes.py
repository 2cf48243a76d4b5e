"""Scores of classes are compared only if they are scores of the same classes."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DATASETS, MODELS

from mmdiffkd.errors import ConfigError
from mmdiffkd.models.classes import class_difference, classes_of_config, classes_of_data
from tests.conftest import ToyModel

NAMES = ('ant', 'bee', 'cat')
OTHERS = ('bee', 'ant', 'cat')


@DATASETS.register_module()
class NamedPictures:
    METAINFO = dict(classes=NAMES)


@DATASETS.register_module()
class PicturesInFolders:
    """Its classes are what it finds when it is built."""

    def __init__(self, root):
        self.metainfo = dict(classes=sorted(path.name for path in Path(root).iterdir()))


def data(**dataset):
    return dict(dataset=dict(type='NamedPictures', **dataset))


def test_where_a_data_set_names_its_classes(tmp_path):
    path = tmp_path / 'classes.txt'
    path.write_text('bee\nant\ncat\n')
    assert classes_of_data(None) is None
    assert classes_of_data(dict(dataset=dict(type='Unheard'))) is None
    assert classes_of_data(data()) == NAMES
    assert classes_of_data(dict(dataset=dict(type='Repeat', dataset=data()['dataset']))) == NAMES
    assert classes_of_data(dict(dataset=dict(datasets=[data()['dataset']]))) == NAMES
    for listed in (list(OTHERS), str(path)):
        assert classes_of_data(data(metainfo=dict(classes=listed))) == OTHERS
        assert classes_of_data(data(classes=listed)) == OTHERS
    assert classes_of_data(data(classes='nowhere.txt')) is None
    folders = dict(type='PicturesInFolders', root=str(tmp_path / 'nowhere'))
    assert classes_of_data(dict(dataset=folders)) is None
    for name in reversed(NAMES):
        (tmp_path / 'nowhere' / name).mkdir(parents=True)
    assert classes_of_data(dict(dataset=folders)) == NAMES
    config = tmp_path / 'teacher.py'
    config.write_text(f'val_dataloader = {data()!r}')
    assert classes_of_config(str(config)) == NAMES


def test_differences():
    """Spaces, punctuation and case do not matter."""
    assert class_difference(NAMES, None) is None
    assert class_difference(('Traffic_Light', 'b'), ('traffic light', 'B ')) is None
    order = class_difference(NAMES, OTHERS)
    assert order.endswith('in another order (number 0: ant, bee)')
    assert class_difference(NAMES, NAMES[:2]).endswith('not the same (number 2: cat, nothing)')


@pytest.mark.parametrize('meta', [dict(dataset_meta=dict(classes=OTHERS)), dict(CLASSES=OTHERS)])
def test_scores_of_other_classes_are_refused(toy_config, meta):
    """By what the teacher's file says; without the student's data nothing is known."""
    path = toy_config['teacher']['checkpoint']
    torch.save({**torch.load(path), 'meta': meta}, path)
    MODELS.build(toy_config)
    MODELS.build(dict(toy_config, data=data(classes=OTHERS)))
    toy_config['data'] = data()
    with pytest.raises(ConfigError, match='pairs.logits: .* classes .* in another order'):
        MODELS.build(toy_config)
    toy_config['teacher']['classes'] = NAMES
    MODELS.build(toy_config)


@MODELS.register_module()
class ToyDetector(ToyModel):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.bbox_head = torch.nn.ModuleDict(dict(cls=self.head.cls, out=self.head.cls))


@pytest.mark.parametrize(
    ('path', 'loss', 'number', 'refused'),
    [
        ('head.cls', 'KLDivLoss', 6, True),
        ('head.cls', 'MSELoss', 6, True),
        ('head.cls:input', 'MSELoss', 6, False),
        # Features, whatever their width.
        ('neck', 'MSELoss', 8, False),
        ('neck', 'KLDivLoss', 2, False),
        # Heads of detectors score several boxes and a background; their boxes are no scores.
        ('bbox_head.out', 'KLDivLoss', 3, True),
        ('bbox_head.out', 'KLDivLoss', 5, True),
        ('bbox_head.out', 'L1Loss', 6, False),
        ('bbox_head.cls', 'L1Loss', 6, True),
    ],
)
def test_what_counts_as_scores(path, loss, number, refused):
    model = dict(type='ToyDetector', num_classes=6)
    names = [f'{i}' for i in range(number)]
    config = dict(
        type='mmdiffkd.DiffKDDistiller',
        student=model,
        teacher=dict(config=model, checkpoint='random', classes=names),
        pairs=dict(pair=dict(student=path, teacher=path, loss=dict(type=loss))),
        data=data(classes=names[::-1]),
    )
    if refused:
        with pytest.raises(ConfigError, match='scores of classes'):
            MODELS.build(config)
    else:
        MODELS.build(config)
