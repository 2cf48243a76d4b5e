"""What is paired when nobody says, on hosts in miniature."""

import pytest
from mmengine.registry import MODELS
from torch import nn

from mmdiffkd.autopair.model_view import view_model
from mmdiffkd.autopair.pair_choice import (
    DETECTOR,
    PairChoice,
    choose_pairs,
    common_task,
    indexed,
    match_levels,
    octaves,
)
from mmdiffkd.autopair.pair_recipes import make_recipes, parse_pairs
from mmdiffkd.errors import ConfigError

SHAPES = ((3, 64, 64),)


def build(kind, **options):
    return MODELS.build(dict(type=f'Paired{kind}', **options))


def choose(student, teacher):
    task = common_task(student, teacher)
    complete = task != DETECTOR
    mine = view_model(student, 'student', SHAPES, complete, trains=True)
    others = view_model(teacher, 'teacher', SHAPES, complete, trains=False)
    return choose_pairs(task, mine, others)


def chosen_recipes(student, teacher):
    return make_recipes(choose(student, teacher), student, teacher, SHAPES)


@pytest.mark.parametrize(
    'student, teacher, expected',
    [
        (dict(), dict(width=6), ('neck', 'neck')),
        (dict(levels=(1, 2)), dict(levels=(0, 1, 2, 3)), ('neck', 'neck[1:3]')),
        (dict(levels=(0, 1, 2)), dict(levels=(1, 2, 3)), ('neck[1:]', 'neck[:2]')),
        (dict(levels=(0, 3)), dict(levels=(1, 2, 3)), ('neck[-1]', 'neck[-1]')),
        (dict(neck=False), dict(levels=(2, 3, 4)), ('backbone[1:]', 'neck[:2]')),
        # No stride in common.
        (dict(levels=(0, 1)), dict(levels=(2, 3)), ('neck[-1]', 'neck[-1]')),
        # What is frozen cannot learn.
        (dict(neck=False, frozen=2), dict(), ('backbone[1:]', 'neck[1:]')),
    ],
)
def test_detectors_pair_levels_of_the_same_stride(student, teacher, expected):
    pairs = choose(build('Detector', **student), build('Detector', **teacher))
    assert pairs == [PairChoice(*expected)]


def test_segmentors_pair_what_the_classifier_is_given_and_its_scores():
    """The features are those before dropout."""
    recipes = chosen_recipes(build('Segmentor'), build('Segmentor', width=6))
    assert [recipe.name for recipe in recipes] == ['features', 'logits']
    features, logits = (recipe.config for recipe in recipes)
    assert features['student'] == features['teacher'] == 'decode_head.bottleneck'
    assert features['loss']['type'] == 'MSELoss'
    assert logits['student'] == logits['teacher'] == 'decode_head'
    assert logits['loss'] == dict(type='KLDivLoss', loss_weight=1.0)
    assert logits['head']['reduction'] == 1
    assert recipes[0].student_maps == [(4, 8, 8)] and recipes[0].teacher_maps == [(6, 8, 8)]


def test_segmentors_whose_scores_no_module_makes_pair_the_last_map_of_the_head():
    models = build('Segmentor'), build('Segmentor', width=6)
    for model in models:
        head = model.decode_head
        head.forward = lambda x, head=head: head.bottleneck(x).mean(1, True).repeat(1, 5, 1, 1)
    pairs = choose(*models)
    assert pairs[0] == PairChoice('decode_head.bottleneck', 'decode_head.bottleneck')
    assert pairs[1] == PairChoice('decode_head', 'decode_head', 'softmax')


def test_segmentors_of_which_only_the_backbone_runs_pair_that(monkeypatch):
    lines = []
    for module in ('apis.pair_choice', 'distillers.model_view'):
        monkeypatch.setattr(f'mmdiffkd.{module}.print_log', lambda text, _: lines.append(text))
    models = build('Segmentor'), build('Segmentor', width=6)
    for model in models:
        model.extract_feat = lambda x, model=model: model.backbone(x)
        del model.decode_head
    assert choose(*models) == [PairChoice('backbone', 'backbone')]
    for role in ('student', 'teacher'):
        assert any(f'Only backbone and neck of the {role} can be paired' in line for line in lines)
    assert 'No pair of scores: none were found in the student' in lines


def test_a_module_that_runs_more_often_in_training_is_not_chosen():
    pairs = choose(build('Segmentor', twice=True), build('Segmentor'))
    assert pairs[0] == PairChoice('decode_head.conv_seg:input', 'decode_head.bottleneck')


def test_one_class_is_scored_with_a_sigmoid():
    pairs = choose(build('Segmentor', num_classes=1), build('Segmentor', num_classes=1))
    assert pairs[1].scores == 'sigmoid'


def test_classifiers_pair_the_last_map_and_the_scores():
    """Before the pooling, where the backbone ends with it."""
    recipes = chosen_recipes(build('Classifier'), build('Classifier', width=6, pooled=True))
    features, logits = (recipe.config for recipe in recipes)
    assert (features['student'], features['teacher']) == ('backbone', 'backbone.stages.1')
    assert (logits['student'], logits['teacher']) == ('head', 'head')
    assert logits['head'] == dict(type='DiffKDHead', kernel_size=1)


def test_several_labels_are_scored_with_sigmoids():
    models = (build('Classifier', several_labels=True) for _ in range(2))
    assert choose(*models)[1].scores == 'sigmoid'


@pytest.mark.parametrize('kind', ['Segmentor', 'Classifier'])
def test_other_classes_leave_the_features(kind, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmdiffkd.autopair.pair_choice.print_log', lambda text, _: lines.append(text)
    )
    pairs = choose(build(kind, num_classes=5), build(kind, num_classes=7))
    assert [pair.scores for pair in pairs] == [None]
    assert 'the student knows 5 classes, the teacher 7' in lines[0]


def test_wide_features_get_an_autoencoder():
    models = build('Classifier'), build('Classifier', width=1100)
    assert chosen_recipes(*models)[0].config['head']['ae_channels'] == 1024


@pytest.mark.parametrize(
    'student, teacher, message',
    [
        (dict(type='ToyModel'), dict(type='PairedDetector'), 'student: ToyModel is no detector'),
        (dict(type='PairedDetector'), dict(type='PairedClassifier'), 'teacher of the same task'),
    ],
)
def test_tasks_that_do_not_fit(student, teacher, message):
    with pytest.raises(ConfigError, match=message):
        common_task(MODELS.build(student), MODELS.build(teacher))


def test_a_model_without_maps_is_named():
    """Its backbone has another name, as in some multimodal models."""
    teacher = build('Detector')
    teacher.encoder, teacher.decoder = teacher.backbone, teacher.neck
    del teacher.backbone, teacher.neck
    teacher.extract_feat = lambda inputs: teacher.decoder(teacher.encoder(inputs))
    with pytest.raises(ConfigError, match='no module of the teacher was found'):
        choose(build('Detector'), teacher)


def test_octaves_round_as_strided_convolutions_do():
    maps = [(8, side, side) for side in (28, 14, 7, 4, 2, 1)]
    assert octaves(maps, 224) == [3, 4, 5, 6, 7, 8]


def test_levels_that_match_nothing():
    assert match_levels([3, 4], [5, 6]) is None
    assert match_levels([None, 4, 5], [3, 4, 5]) == (slice(1, 3), slice(1, 3))


@pytest.mark.parametrize(
    'part, expected',
    [
        (slice(0, 4), 'neck'),
        (slice(1, 4), 'neck[1:]'),
        (slice(0, 2), 'neck[:2]'),
        (slice(1, 3), 'neck[1:3]'),
        (slice(0, 1), 'neck[0]'),
        (slice(3, 4), 'neck[-1]'),
    ],
)
def test_indexed_paths(part, expected):
    assert indexed('neck', part, 4) == expected


def test_pairs_of_a_command_line():
    assert parse_pairs('neck') == [PairChoice('neck', 'neck')]
    assert parse_pairs(['a[-1]=b', 'head.fc']) == [
        PairChoice('a[-1]', 'b'),
        PairChoice('head.fc', 'head.fc'),
    ]
    for wrong in ('', '=neck', 'neck=', 'a=b=c'):
        with pytest.raises(ConfigError, match='--pairs'):
            parse_pairs([wrong])


def test_named_places_get_head_and_loss_by_what_they_yield():
    models = build('Classifier'), build('Classifier', width=6)
    choices = parse_pairs(['backbone.stages.0', 'backbone', 'head.fc'])
    recipes = make_recipes(choices, *models, SHAPES)
    assert [recipe.name for recipe in recipes] == ['features', 'features2', 'logits']
    assert recipes[2].config['loss']['type'] == 'KLDivLoss'
    assert recipes[2].config['head']['kernel_size'] == 1


@pytest.mark.parametrize('several_labels', [False, True])
def test_named_scores_are_known_by_their_number(several_labels):
    """That of the classes, wherever the layer is; vectors of another width are features."""
    models = [build('Classifier', several_labels=several_labels) for _ in range(2)]
    for model in models:
        model.backbone.fc, model.head.fc = model.head.fc, nn.Identity()
        model.backbone.pool = nn.AdaptiveAvgPool2d(1)
        model.head.forward = lambda x, own=model.backbone: own.fc(own.pool(x).flatten(1))
    recipes = make_recipes(parse_pairs(['backbone.fc', 'backbone.pool']), *models, SHAPES)
    assert [recipe.name for recipe in recipes] == ['logits', 'features']
    assert recipes[0].config['loss'].get('use_sigmoid', False) is several_labels


def test_named_scores_of_a_segmentor():
    recipes = make_recipes(
        parse_pairs('decode_head.conv_seg'), build('Segmentor'), build('Segmentor'), SHAPES
    )
    assert recipes[0].config['loss']['type'] == 'KLDivLoss'


def test_named_pyramids_are_cut_to_what_they_share():
    models = build('Detector', levels=(1, 2)), build('Detector', levels=(0, 1, 2))
    (recipe,) = make_recipes(parse_pairs('neck'), *models, SHAPES)
    assert (recipe.config['student'], recipe.config['teacher']) == ('neck', 'neck[1:]')
    assert recipe.student_maps == [(4, 8, 8), (4, 4, 4)] == recipe.teacher_maps


@pytest.mark.parametrize(
    'pairs, student, teacher',
    [
        ('neck', 'neck[:2]', 'neck[1:]'),
        ('backbone', 'backbone[:2]', 'backbone[1:]'),
        ('neck[0:2]', 'neck[0:2][0]', 'neck[0:2][-1]'),
        ('neck[1:]=neck', 'neck[1:][0]', 'neck[-1]'),
        ('neck[-1]', 'neck[-1]', 'neck[-1]'),
    ],
)
def test_named_pyramids_of_equal_length_meet_at_equal_strides(pairs, student, teacher):
    models = build('Detector', levels=(1, 2, 3)), build('Detector', levels=(0, 1, 2))
    (recipe,) = make_recipes(parse_pairs(pairs), *models, SHAPES)
    assert (recipe.config['student'], recipe.config['teacher']) == (student, teacher)


@pytest.mark.parametrize(
    'pairs, message',
    [
        ('nekc', "--pairs: student path 'nekc': .* the closest are 'neck'"),
        ('neck=nekc', "--pairs: teacher path 'nekc'"),
        ('neck=backbone.stages', "'backbone.stages' yielded nothing: a ModuleList never runs"),
        ('backbone.stages.0=neck', 'yields 1 maps, .* 3, and no levels of the same stride can be'),
    ],
)
def test_wrong_pairs(pairs, message):
    with pytest.raises(ConfigError, match=message):
        make_recipes(parse_pairs(pairs), build('Detector'), build('Detector'), SHAPES)
