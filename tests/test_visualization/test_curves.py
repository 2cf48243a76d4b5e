"""What is in the panels: the numbers of the log, each where it belongs."""

import numpy as np
import pytest

from mmdiffkd.visualization import RunLog, curves_figure, to_image


def series(*values):
    return 10 * np.arange(1, len(values) + 1), np.array(values)


def run_of(name, levels=2, **more):
    training = {
        'lr': series(0.1, 0.1),
        'loss_cls': series(1.0, 0.5),
        'loss': series(4.0, 2.0),
        'loss_kd_fpn': series(3.0, 2.0),
        'loss_ae_fpn': series(3.0, 2.0),
        'gamma_fpn': series(0.5, 0.6),
        'dist_before_fpn': series(2.0, 2.0),
        'dist_after_fpn': series(2.0, 1.0),
    }
    for level in range(levels):
        training[f'gamma_fpn/level_{level}'] = series(0.5, 0.6 + level)
        training[f'dist_before_fpn/level_{level}'] = series(2.0, 2.0)
        training[f'dist_after_fpn/level_{level}'] = series(2.0, 1.0 - level)
    validation = {
        'coco/mAP': series(0.1, 0.2),
        'teacher/coco/mAP': series(0.4),
        'coco/mAP_l': series(-1.0, -1.0),
        'time': series(1.0, 1.0),
    }
    return RunLog(name, {**training, **more}, validation)


def panels(figure):
    """Title to axes, without those that are empty."""
    axes = [axes for axes in figure.axes if axes.lines]
    return {panel.get_title(loc='left'): panel for panel in axes}


def heights(panel):
    return [line.get_ydata()[-1] for line in panel.lines]


def notes(panel):
    return [text.get_text() for text in panel.texts]


def test_one_run():
    figure = curves_figure([run_of('my_run', loss_diff_fpn=series(1.0, 0.5))])
    found = panels(figure)
    assert {title: notes(panel) for title, panel in found.items()} == {
        'loss': ['the sum'],
        'loss_cls': ['student'],
        'loss_kd_fpn': ['student and the head, not its autoencoder'],
        'loss_ae_fpn': ['autoencoder'],
        'loss_diff_fpn': ['noise predictor'],
        'gamma fpn': ['share of the student feature kept'],
        'distance fpn': ['dashed and hollow: before denoising'],
        'coco/mAP': ['last 0.2'],
    }
    assert heights(found['gamma fpn']) == [0.6, 1.6]
    assert heights(found['distance fpn']) == [1.0, 0.0, 2.0, 2.0]
    assert [line.get_linestyle() for line in found['distance fpn'].lines] == ['-', '-', '--', '--']
    assert heights(found['coco/mAP']) == [0.2, 0.4]  # the teacher's is a line beside it
    image = to_image(figure)
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.std() > 10


def test_pulls_of_all_pairs_share_a_panel_in_one_run():
    """CornerNet has losses of similar names."""
    logged = dict(
        pull_fpn=series(0.01, 0.1),
        pull_logits=series(3.0, 2.0),
        agreement_fpn=series(-0.2, 0.1),
        pull_loss=series(9.0, 8.0),
    )
    found = panels(curves_figure([run_of('run', **logged)]))
    assert heights(found['pull']) == [0.1, 2.0] and found['pull'].get_yscale() == 'log'
    assert heights(found['agreement']) == [0.1]
    assert found['agreement'].get_ylim()[0] < -1 < 1 < found['agreement'].get_ylim()[1]
    found = panels(curves_figure([run_of('first', **logged), run_of('second', pull_fpn=series(4))]))
    assert heights(found['pull fpn']) == [0.1, 4] and heights(found['pull logits']) == [2.0]


def test_several_runs_have_a_panel_per_level():
    """One of the runs is a plain student."""
    plain = RunLog('plain', dict(loss=series(100.0, 1.0), loss_cls=series(3.0, 1.0)), {})
    figure = curves_figure([run_of('first'), run_of('second'), plain])
    found = panels(figure)
    assert [title for title in found if 'fpn/' in title] == [
        f'{kind} fpn/level_{level}' for kind in ('gamma', 'distance') for level in (0, 1)
    ]
    assert heights(found['gamma fpn/level_1']) == [1.6, 1.6]
    assert len({line.get_color() for line in found['loss'].lines}) == 3
    assert found['loss'].get_yscale() == 'log' and found['loss_cls'].get_yscale() == 'linear'
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ['first', 'second', 'plain']


def test_axes_of_a_short_run():
    """Iterations are whole, and values are written in full."""
    points = np.array([1, 2]), np.array([1000.0001, 1000.0002])
    (axes,) = panels(curves_figure([RunLog('run', dict(loss=points), {})])).values()
    axes.figure.get_figure(root=True).canvas.draw()
    assert all(tick.is_integer() for tick in axes.get_xticks())
    assert '1000.0001' in [text.get_text() for text in axes.get_yticklabels()]
    assert axes.yaxis.get_offset_text().get_text() == ''


def test_too_many_runs():
    with pytest.raises(ValueError, match='at most 7 runs can be compared, got 8'):
        curves_figure([run_of('run')] * 8)
