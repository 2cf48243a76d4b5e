"""Layer-wise learning rate decay of the hosts: the student's rates are those without distiller."""

import copy

import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

CONVNEXT = dict(
    type='mmpretrain.ConvNeXt',
    arch=dict(depths=[1, 1, 3, 1], channels=[4, 8, 12, 16]),
    out_indices=(3,),
    gap_before_final_norm=False,
)


def classifier(backbone):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=backbone,
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=16),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('scope', 'constructor', 'options'),
    [
        ('mmpretrain', 'LearningRateDecayOptimWrapperConstructor', dict(layer_decay_rate=0.5)),
        (
            'mmdet',
            'LearningRateDecayOptimizerConstructor',
            dict(decay_rate=0.5, decay_type='layer_wise', num_layers=6),
        ),
        (
            'mmseg',
            'LearningRateDecayOptimizerConstructor',
            dict(decay_rate=0.5, decay_type='stage_wise', num_layers=6),
        ),
    ],
)
def test_rates_of_the_student(scope, constructor, options):
    pytest.importorskip('mmpretrain')
    pytest.importorskip(scope)
    student = classifier(CONVNEXT)
    distiller = MODELS.build(
        dict(
            type='mmdiffkd.DiffKDDistiller',
            student=copy.deepcopy(student),
            teacher=dict(config=copy.deepcopy(student), checkpoint='random'),
            pairs=dict(
                feature=dict(
                    student='backbone',
                    teacher='backbone',
                    head=dict(type='DiffKDHead'),
                    loss=dict(type='MSELoss'),
                )
            ),
        )
    )

    def rates(model):
        cfg = dict(
            optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1),
            constructor=constructor,
            paramwise_cfg=dict(options),
        )
        with DefaultScope.overwrite_default_scope(scope):
            groups = build_optim_wrapper(model, cfg).optimizer.param_groups
        settings = {id(p): (g['lr'], g['weight_decay']) for g in groups for p in g['params']}
        return {name: settings[id(p)] for name, p in model.named_parameters()}

    alone, distilled = rates(MODELS.build(student)), rates(distiller)
    assert len({lr for lr, _ in alone.values()}) > 3
    assert {name: distilled[name] for name in alone} == alone
    # What is distilled into is no deeper than the student's head.
    assert distilled['distill.pairs.feature.heads.0.align.weight'] == (1.0, 0.1)
