"""The miniature CIFAR-100 has the format of the real one."""

import pickle
import pickletools

import numpy as np
import pytest

from mmdiffkd.testing import make_mini_cifar100
from mmdiffkd.testing.cifar100_categories import CIFAR100_CLASSES, CIFAR100_SUPERCLASSES

UNVERIFIED = 'mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'


@pytest.fixture(scope='module')
def mini(tmp_path_factory):
    return make_mini_cifar100(tmp_path_factory.mktemp('cifar') / 'mini', num_train=24, num_val=12)


def load(root, name, encoding='latin1'):
    with (root / 'cifar-100-python' / name).open('rb') as file:
        return pickle.load(file, encoding=encoding)


@pytest.mark.parametrize('name, count', [('train', 24), ('test', 12)])
def test_content_of_a_split(mini, name, count):
    content = load(mini, name)
    assert {*content} == {'filenames', 'batch_label', 'fine_labels', 'coarse_labels', 'data'}
    assert content['data'].shape == (count, 3072) and content['data'].dtype == np.uint8
    assert content['batch_label'] == f'{name}ing batch 1 of 1'
    assert content['fine_labels'] == [i % 10 for i in range(count)]
    meta = load(mini, 'meta')
    for fine, coarse, file in zip(
        *(content[k] for k in ('fine_labels', 'coarse_labels', 'filenames'))
    ):
        group = CIFAR100_SUPERCLASSES[meta['coarse_label_names'][coarse]]
        assert meta['fine_label_names'][fine] in group
        assert file.startswith(meta['fine_label_names'][fine])


def test_text_is_what_python_2_wrote(mini):
    assert load(mini, 'train', 'bytes')[b'batch_label'] == b'training batch 1 of 1'
    assert load(mini, 'meta', 'bytes')[b'coarse_label_names'][1] == b'fish'
    raw = (mini / 'cifar-100-python/train').read_bytes()
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(raw)}
    assert 'BINSTRING' in opcodes
    assert not {'BINUNICODE', 'SHORT_BINBYTES', 'BINBYTES'} & opcodes


def test_names_are_those_of_cifar(mini):
    datasets = pytest.importorskip('mmpretrain.datasets')
    meta = load(mini, 'meta')
    assert tuple(meta['fine_label_names']) == datasets.CIFAR100.METAINFO['classes']
    assert meta['fine_label_names'] == CIFAR100_CLASSES
    assert meta['coarse_label_names'] == sorted(CIFAR100_SUPERCLASSES)
    assert len(meta['coarse_label_names']) == 20
    assert all(len(group) == 5 for group in CIFAR100_SUPERCLASSES.values())


def test_pictures_do_not_depend_on_their_number(mini, tmp_path):
    more = make_mini_cifar100(tmp_path / 'more', num_train=30, num_val=12)
    data = load(more, 'train')['data']
    np.testing.assert_array_equal(data[:24], load(mini, 'train')['data'])
    assert len(np.unique(np.concatenate([data, load(more, 'test')['data']]), axis=0)) == 42


def test_config_of_mmpretrain_with_another_type(
    tmp_path, monkeypatch, host_config, read_all, score_of_truth
):
    make_mini_cifar100(tmp_path / 'data/cifar100')
    monkeypatch.chdir(tmp_path)
    cfg = host_config('mmpretrain', 'resnet/resnet50_8xb16_cifar100.py')
    for loader, count in ((cfg.train_dataloader, 64), (cfg.val_dataloader, 32)):
        loader.dataset.type = UNVERIFIED
        dataset, samples = read_all(loader)
        assert len(dataset) == len(samples) == count
        assert len(dataset.metainfo['classes']) == 100
        assert {int(sample.gt_label) for sample in samples} == {*range(10)}
    assert score_of_truth(cfg.val_evaluator, dataset, samples) == {'accuracy/top1': 100}


def test_mmpretrain_itself_reads_only_the_original_files(mini):
    """Should this fail one day, UnverifiedCIFAR100 is not needed any more."""
    datasets = pytest.importorskip('mmpretrain.datasets')
    with pytest.raises(RuntimeError, match='Cannot find CIFAR100'):
        datasets.CIFAR100(data_root=str(mini), download=False)


def test_missing_files_are_named(tmp_path):
    pytest.importorskip('mmpretrain')
    from mmdiffkd.datasets.cifar100 import UnverifiedCIFAR100

    with pytest.raises(RuntimeError, match='Cannot find UnverifiedCIFAR100'):
        UnverifiedCIFAR100(data_root=str(tmp_path), download=False)
    assert not list(tmp_path.iterdir())


def test_other_classes(tmp_path):
    root = make_mini_cifar100(
        tmp_path / 'own', num_train=7, num_val=2, classes=['cat', 'dog', 'cow']
    )
    content, meta = load(root, 'train'), load(root, 'meta')
    assert meta == dict(fine_label_names=['cat', 'dog', 'cow'], coarse_label_names=['none'])
    assert content['fine_labels'] == [0, 1, 2, 0, 1, 2, 0]
    assert content['coarse_labels'] == [0] * 7


def test_pictures_show_their_class(tmp_path):
    root = make_mini_cifar100(tmp_path / 'a', num_train=100, num_val=50)
    means = {
        name: load(root, name)['data'].reshape(-1, 3, 1024).mean(2) for name in ('train', 'test')
    }
    distances = np.linalg.norm(means['test'][:, None] - means['train'], axis=-1)
    # The classes take turns; chance would hit 5 of the 50.
    hits = (distances.argmin(1) % 10 == np.arange(50) % 10).sum()
    assert hits >= 15
