"""What is in the panels: the numbers of the log, each where it belongs."""

import numpy as np
import pytest

from mmdiffkd.visualization import RunLog, Series, curves_figure, to_image


def series(*values):
    return Series(10 * np.arange(1, len(values) + 1), np.array(values))


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
    figure = curves_figure([run_of('my_run')])
    found = panels(figure)
    assert list(found) == [
        'loss', 'loss_cls', 'loss_kd_fpn', 'loss_ae_fpn', 'gamma fpn', 'distance fpn', 'coco/mAP',
    ]  # fmt: skip
    assert heights(found['loss']) == [2.0]
    assert heights(found['gamma fpn']) == [0.6, 1.6]
    assert heights(found['distance fpn']) == [1.0, 0.0, 2.0, 2.0]
    assert [line.get_linestyle() for line in found['distance fpn'].lines] == ['-', '-', '--', '--']
    labels = [text.get_text() for text in found['gamma fpn'].get_legend().get_texts()]
    assert labels == ['level 0', 'level 1']
    assert 'my_run' in figure.get_suptitle()


def test_which_parameters_a_loss_trains():
    found = panels(curves_figure([run_of('run', loss_diff_fpn=series(1.0, 0.5))]))
    assert notes(found['loss_cls']) == ['student']
    assert notes(found['loss_kd_fpn']) == ['student and the head, not its autoencoder']
    assert notes(found['loss_diff_fpn']) == ['noise predictor']
    assert notes(found['loss_ae_fpn']) == ['autoencoder']


def test_teacher_is_a_line_beside_the_student_s_metric():
    panel = panels(curves_figure([run_of('run')]))['coco/mAP']
    assert heights(panel) == [0.2, 0.4]
    assert [text.get_text() for text in panel.get_legend().get_texts()][-1] == 'teacher'


def test_several_runs_have_a_panel_per_level():
    figure = curves_figure([run_of('first'), run_of('second')])
    found = panels(figure)
    assert [title for title in found if 'fpn,' in title] == [
        f'{kind} fpn, level {level}' for kind in ('gamma', 'distance') for level in (0, 1)
    ]
    assert heights(found['gamma fpn, level 1']) == [1.6, 1.6]
    first, second = found['loss'].lines
    assert first.get_color() != second.get_color()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['first', 'second']


def test_runs_of_different_kinds():
    """A plain student beside a distilled one, without levels."""
    plain = RunLog('plain', dict(loss=series(1.0)), {})
    found = panels(curves_figure([plain, run_of('distilled', levels=0)]))
    assert len(found['loss'].lines) == 2 and len(found['loss_cls'].lines) == 1
    assert heights(found['gamma fpn']) == [0.6]
    assert heights(found['distance fpn']) == [1.0, 2.0]


def test_scales():
    """Decades of a loss are drawn as such, a metric never, and one point can be seen."""
    training = dict(loss=series(100.0, 1.0), loss_cls=series(3.0, 1.0))
    found = panels(curves_figure([RunLog('run', training, dict(mAP=series(0.001, 0.5)))]))
    scales = {name: panel.get_yscale() for name, panel in found.items()}
    assert scales == dict(loss='log', loss_cls='linear', mAP='linear')
    assert found['mAP'].lines[0].get_marker() == 'o'


def test_drawn_as_pixels():
    image = to_image(curves_figure([run_of('run')]))
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.std() > 10


def test_too_many_runs():
    with pytest.raises(ValueError, match='at most 7 runs can be compared, got 8'):
        curves_figure([run_of('run')] * 8)
