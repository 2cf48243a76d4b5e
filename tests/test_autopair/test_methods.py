"""Other methods than DiffKD: what they pair in hosts in miniature, and why they may not apply."""

import sys
from functools import partial
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.apis import distill
from mmdiffkd.autopair import methods
from mmdiffkd.autopair.make_config import make_config
from mmdiffkd.autopair.pairs import make_pairs
from mmdiffkd.errors import ConfigError

FEATURE_METHODS = ('align', 'l2', 'at', 'cwd', 'pkd', 'mgd')


@pytest.fixture
def pairs_of(config_file, tmp_path):
    """The pairs that are written for a student and a teacher of a kind."""

    def pairs_of(method, kind, student=None, teacher=None, named=None):
        configs = [
            config_file(role, type=f'Paired{kind}', **(options or {}))
            for role, options in (('student', student), ('teacher', teacher))
        ]
        path = tmp_path / 'made.py'
        path.write_text(make_config(path, *configs, 'random', named, method=method))
        return Config.fromfile(path).model.to_dict()['pairs']

    return pairs_of


@pytest.mark.parametrize('method', ('kd', 'dkd', 'dist', *FEATURE_METHODS))
def test_classifiers_are_distilled_by_one_loss_on_features_or_scores(method, pairs_of):
    ((name, pair),) = pairs_of(method, 'Classifier').items()
    assert name == ('features' if method in FEATURE_METHODS else 'logits')
    assert pair.get('head', {}).get('type') == dict(mgd='MGDHead', align='AlignHead').get(method)
    assert ('loss' in pair) == (method != 'mgd')


@pytest.mark.parametrize('method', ('align', 'l2', 'cwd', 'pkd'))
def test_features_of_other_widths_are_projected(method, pairs_of):
    ((_, pair),) = pairs_of(method, 'Detector', teacher=dict(width=6)).items()
    assert pair['head'] == dict(type='AlignHead')
    assert 'head' not in pairs_of('at', 'Detector', teacher=dict(width=6))['fpn']


def test_weights_are_those_of_the_kind_of_model(pairs_of):
    assert pairs_of('cwd', 'Segmentor')['logits']['loss']['loss_weight'] == 5.0
    assert pairs_of('cwd', 'Detector')['fpn']['loss']['loss_weight'] == 10.0
    assert pairs_of('mgd', 'Segmentor')['features']['head']['mask_ratio'] == 0.75
    two_stage = MODELS.build(dict(type='PairedDetector'))
    two_stage.roi_head = nn.Identity()
    pair_of = partial(methods.pair_of, 'pkd')
    pairs, _ = make_pairs([('neck', 'neck')], [two_stage] * 2, [(3, 64, 64)], pair_of)
    assert pairs['fpn']['loss']['loss_weight'] == 6.0


def test_scores_of_one_stage_detectors_are_sigmoids(pairs_of):
    assert pairs_of('kd', 'Detector', named=['neck'])['fpn']['loss']['use_sigmoid']
    assert 'use_sigmoid' not in pairs_of('kd', 'Classifier')['logits']['loss']


def test_temperature_follows_the_size_of_images():
    models = [MODELS.build(dict(type='PairedClassifier'))] * 2
    for side, beta, tau in ((32, 8.0, 4.0), (96, 0.5, 1.0)):
        pair_of = partial(methods.pair_of, 'dkd')
        pairs, _ = make_pairs([('head', 'head')], models, [(3, side, side)], pair_of)
        assert pairs['logits']['loss'] == dict(type='DKDLoss', alpha=1.0, beta=beta, tau=tau)


def test_named_modules_get_head_and_loss_of_the_method(pairs_of):
    pairs = pairs_of('mgd', 'Classifier', named=['backbone.stages.0', 'backbone.stages.1'])
    assert [pair['head']['type'] for pair in pairs.values()] == ['MGDHead'] * 2
    assert [pair['student'][-1] for pair in pairs.values()] == ['0', '1']


@pytest.mark.parametrize(
    'method, kind, options, message',
    [
        ('kd', 'Detector', {}, 'compares class scores'),
        ('dkd', 'Segmentor', {}, 'needs one class per image'),
        ('fgd', 'Classifier', {}, 'needs the boxes of objects'),
        ('crosskd', 'Detector', {}, 'the same of the heads .*no bbox_head and no bbox_head'),
        ('ld', 'Segmentor', {}, 'distributions of boxes'),
        ('kd', 'Classifier', dict(num_classes=7), 'the student knows 5 classes, the teacher 7'),
        ('cwd', 'Segmentor', dict(num_classes=7), 'the student knows 5 classes, the teacher 7'),
        ('dist', 'Segmentor', dict(num_classes=1), 'the student knows 5 classes, the teacher 1'),
        ('kdk', 'Classifier', {}, "did you mean '.*kd.*known: diffkd, align"),
    ],
)
def test_method_that_does_not_apply_says_why(method, kind, options, message, pairs_of):
    with pytest.raises(ConfigError, match=f'--method.*{message}'):
        pairs_of(method, kind, teacher=options)


def test_sigmoid_scores_have_no_softmax_to_compare(pairs_of):
    several = dict(several_labels=True)
    with pytest.raises(ConfigError, match='--method dist: .*sigmoid'):
        pairs_of('dist', 'Classifier', several, several)
    loss = pairs_of('kd', 'Classifier', several, several)['logits']['loss']
    assert loss['use_sigmoid'] is True


def test_attention_needs_places(pairs_of):
    with pytest.raises(ConfigError, match='--pairs: .*vectors'):
        pairs_of('at', 'Classifier', dict(pooled=True), dict(pooled=True), named='backbone')


def dense(kind, **attributes):
    head = type(kind, (nn.Module,), {})()
    vars(head).update(attributes)
    return SimpleNamespace(bbox_head=head)


def test_dense_heads_of_one_kind_are_crossed():
    for kind, index in (('GFLHead', 2), ('FCOSHead', 1)):
        model = dense(kind)
        methods.check_method('crosskd', [model, dense(kind)], named=False)
        assert methods.own_choices('crosskd', model) == [
            (f'bbox_head.{part}_convs.{index}.activate:input', 'neck') for part in ('cls', 'reg')
        ]
    for other in ('FCOSHead', 'PAAHead'):
        with pytest.raises(ConfigError, match=f'GFLHead and {other}'):
            methods.check_method('crosskd', [dense('GFLHead'), dense(other)], named=False)


def test_distributions_of_boxes_must_be_equal():
    methods.check_method('ld', [dense('GFLHead', reg_max=16)] * 2, named=False)
    with pytest.raises(ConfigError, match='distributions'):
        models = [dense('GFLHead', reg_max=16), dense('GFLHead', reg_max=8)]
        methods.check_method('ld', models, named=False)


def test_distilling_by_another_method(config_file, tmp_path, monkeypatch):
    """It has folders of its own, and complete pairs of a config contradict it."""
    monkeypatch.chdir(tmp_path)
    models = [config_file(role, type='PairedClassifier') for role in ('student', 'teacher')]
    made = []
    module = sys.modules[distill.__module__]
    monkeypatch.setattr(module, 'train', lambda cfg, *_: made.append(cfg))
    monkeypatch.setattr(module.launch, 'check_complete', lambda *_: None)
    distill(*models, 'random', method='kd')
    assert made[0].filename == 'work_dirs/student_from_teacher_kd/config/student_from_teacher_kd.py'
    assert [*made[0].model.pairs] == ['logits']
    with pytest.raises(ConfigError, match="method='kd' has its own"):
        distill(*models, 'random', pairs=dict(made[0].model.pairs), method='kd')
