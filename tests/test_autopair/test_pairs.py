"""What is paired when nobody says, and how, on hosts in miniature."""

import pytest
from mmengine.registry import MODELS

from mmdiffkd.autopair.pairs import DETECTOR, choose_pairs, common_task, make_pairs, parse_pairs
from mmdiffkd.autopair.survey import survey
from mmdiffkd.errors import ConfigError

SHAPES = [(3, 64, 64)]


def build(kind, **options):
    return MODELS.build(dict(type=f'Paired{kind}', **options))


def choose(student, teacher):
    task = common_task(student, teacher)
    mine = survey(student, 'student', SHAPES, complete=task != DETECTOR, trains=True)
    others = survey(teacher, 'teacher', SHAPES, complete=task != DETECTOR)
    return choose_pairs(task, mine, others)[0]


def pairs_of(*models, named=None):
    """The pairs of a config, chosen or as on a command line."""
    chosen = parse_pairs(named) if named else choose(*models)
    return make_pairs(chosen, models, SHAPES)[0]


@pytest.mark.parametrize(
    'student, teacher, expected',
    [
        (dict(), dict(width=6), ('neck', 'neck')),
        (dict(levels=(0, 1, 2)), dict(levels=(1, 2, 3)), ('neck[1:]', 'neck[:2]')),
        (dict(levels=(0, 3)), dict(levels=(1, 2, 3)), ('neck[-1]', 'neck[-1]')),
        (dict(neck=False), dict(levels=(2, 3)), ('backbone[1:]', 'neck')),
        # No stride in common.
        (dict(levels=(0, 1)), dict(levels=(2, 3)), ('neck', 'neck')),
    ],
)
def test_detectors_pair_levels_of_the_same_stride(student, teacher, expected):
    pair = pairs_of(build('Detector', **student), build('Detector', **teacher)).popitem()[1]
    assert (pair['student'], pair['teacher']) == expected


def test_models_of_other_hosts_pair_their_necks():
    student, teacher = (MODELS.build(dict(type='ToyModel', width=width)) for width in (8, 6))
    assert choose(student, teacher) == [('neck', 'neck')]
    with pytest.raises(ConfigError, match='two detectors, segmentors or classifiers'):
        common_task(student, build('Detector'))


def test_segmentors_pair_what_comes_before_dropout_and_classifier_and_the_scores():
    pairs = pairs_of(build('Segmentor'), build('Segmentor', width=6))
    features, logits = pairs['features'], pairs['logits']
    assert features['student'] == features['teacher'] == 'decode_head.bottleneck'
    assert logits['student'] == logits['teacher'] == 'decode_head'
    assert logits['head'] == dict(type='DiffKDHead', reduction=1, adapter_reduction=1)
    assert logits['loss'] == dict(type='KLDivLoss', loss_weight=1.0)


def test_a_module_that_runs_more_often_in_training_is_not_chosen():
    """And scores of other classes are left out."""
    pairs = choose(build('Segmentor', twice=True), build('Segmentor', num_classes=7))
    assert pairs == [('decode_head.conv_seg:input', 'decode_head.bottleneck')]


def test_a_part_of_what_the_classifier_of_a_segmentor_is_given_is_not_chosen():
    pairs = choose(build('Segmentor', residual=True), build('Segmentor'))
    assert pairs[0] == ('decode_head.conv_seg:input', 'decode_head.bottleneck')


def test_classifiers_pair_the_last_map_and_the_scores():
    """Before the pooling, where the backbone ends with it."""
    pairs = pairs_of(build('Classifier'), build('Classifier', width=1100, pooled=True))
    features, logits = pairs['features'], pairs['logits']
    assert (features['student'], features['teacher']) == ('backbone', 'backbone.stages.1')
    assert features['head']['ae_channels'] == 1024  # wide features
    assert (logits['student'], logits['teacher']) == ('head', 'head')
    assert logits['head'] == dict(type='DiffKDHead', kernel_size=1)


@pytest.mark.parametrize(
    'kind, options', [('Segmentor', dict(num_classes=1)), ('Classifier', dict(several_labels=True))]
)
def test_what_a_softmax_cannot_score_gets_a_sigmoid(kind, options):
    pairs = pairs_of(build(kind, **options), build(kind, **options))
    assert pairs['logits']['loss']['use_sigmoid'] is True


def test_models_that_cannot_be_paired():
    with pytest.raises(ConfigError, match='PairedDetector and the student, PairedClassifier, must'):
        choose(build('Classifier'), build('Detector'))
    teacher = build('Detector')
    teacher.extract_feat = lambda inputs: [inputs]
    with pytest.raises(ConfigError, match='no feature maps were found'):
        choose(build('Detector'), teacher)


def test_pairs_of_a_command_line():
    assert parse_pairs(['a[-1]=b', 'head.fc']) == [('a[-1]', 'b'), ('head.fc', 'head.fc')]
    with pytest.raises(ConfigError, match='--pairs'):
        parse_pairs('neck=')


def test_named_scores_are_known_by_their_number():
    models = build('Segmentor'), build('Segmentor')
    assert [*pairs_of(*models, named='decode_head.conv_seg')] == ['logits']


@pytest.mark.parametrize(
    'named, student, teacher',
    [
        ('neck', 'neck[:2]', 'neck[1:]'),
        ('neck[0:2]', 'neck[0:2][0]', 'neck[0:2][-1]'),
    ],
)
def test_named_pyramids_meet_at_equal_strides(named, student, teacher):
    models = build('Detector', levels=(1, 2, 3)), build('Detector', levels=(0, 1, 2))
    pair = pairs_of(*models, named=named).popitem()[1]
    assert (pair['student'], pair['teacher']) == (student, teacher)


@pytest.mark.parametrize(
    'named, message',
    [
        ('nekc', "--pairs: student path 'nekc': .* the closest are 'neck'"),
        ('backbone.stages.0=neck', 'yields 1 maps, .* 3, and no levels of the same stride can be'),
    ],
)
def test_wrong_pairs(named, message):
    with pytest.raises(ConfigError, match=message):
        pairs_of(build('Detector'), build('Detector'), named=named)
