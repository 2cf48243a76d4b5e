"""Statistics and report of a comparison, from made-up results."""

import json

import numpy as np
import pytest

from mmdiffkd.apis.comparison import Comparison, Row, sentences, table, write_report
from mmdiffkd.apis.paired import holm, paired


@pytest.mark.parametrize('number', [2, 3, 4, 5, 10, 41])
def test_interval_and_probability_are_those_of_scipy(number):
    stats = pytest.importorskip('scipy.stats')
    for shift in (0, 0.7, 5):
        differences = np.random.RandomState(number).randn(number) + shift
        found, wanted = paired(differences.tolist()), stats.ttest_1samp(differences, 0)
        interval = wanted.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert found.p == pytest.approx(wanted.pvalue, rel=1e-6, abs=1e-14)
        assert found.mean == pytest.approx(differences.mean())


def test_differences_without_spread():
    assert paired([0.5]) == (0.5, None, None, None)
    assert paired([0.0, 0.0]) == (0, 0, 0, 1)
    assert paired([0.5, 0.5]) == (0.5, 0.5, 0.5, 0)


def test_several_comparisons_are_taken_into_account():
    assert holm(dict(a=0.01, b=0.04, c=0.03, d=0.005)) == ['d', 'a']
    assert holm(dict(a=0.04)) == ['a'] and holm({}) == []


def row(*values, **more):
    results = {
        seed: dict(metrics={'mIoU': value}, ms_per_step=100 + seed, memory_mb=900)
        for seed, value in enumerate(values)
        if value is not None
    }
    return Row(results, **more)


@pytest.fixture
def comparison():
    rows = dict(
        alone=row(50.0, 51.0, 49.0),
        good=row(60.0, 61.0, 59.1, factor=0.3, tried={0.3: 1.0, 1.0: 0.5}),
        maybe=row(51.0, 52.2, 51.0),
        unclear=row(52.0, 50.0, None, error='RuntimeError: a | b'),
        broken=row(error='ConfigError: no'),
    )
    return Comparison('s, taught by t', 'mIoU', False, rows, teacher={'mIoU': 70.0})


def test_table_and_sentences(comparison):
    lines = [
        [cell.strip() for cell in line.split('|')[1:-1]] for line in table(comparison).split('\n')
    ]
    cells = {line[0]: line[1:] for line in lines if line}
    assert cells['teacher'][2] == '70.00'
    assert cells['alone'] == ['', '3', '50.00 ± 1.00', '', '', '101', '900']
    assert cells['good'][:4] == ['x 0.3', '3', '60.03 ± 0.95', '+10.03']
    assert cells['good'][4] == '+9.89 to +10.18'
    assert cells['unclear'][1] == '2' and cells['unclear'][2].endswith(
        '; failed: RuntimeError: a / b'
    )
    assert cells['broken'][2] == 'failed: ConfigError: no'
    said = sentences(comparison)
    assert said[0].startswith('good is better than the student alone')
    assert 'maybe may be better' in said[1] and 'chance' in said[1]
    assert said[2] == 'unclear: no difference to the student alone can be told from 2 seeds.'
    assert said[3] == 'The best mean is that of good; it cannot be told from unclear.'
    assert 'Holm' in said[4]
    assert comparison.failed


def test_of_a_loss_less_is_better(comparison):
    said = sentences(comparison._replace(is_loss=True))
    assert 'good is worse than the student alone' in said[0]
    assert 'best mean is that of alone' in said[3]


def test_one_seed_says_nothing():
    comparison = Comparison('', 'mIoU', False, dict(alone=row(50.0), kd=row(90.0)))
    assert sentences(comparison)[0].endswith('can be told from 1 seed.')
    cells = [cell.strip() for cell in table(comparison).splitlines()[-1].split('|')]
    assert cells[5:7] == ['+40.00', ''] and not comparison.failed


def test_report(comparison, tmp_path):
    text = write_report(comparison, tmp_path)
    assert text.startswith('s, taught by t') and 'unclear failed: RuntimeError: a | b' in text
    content = json.loads((tmp_path / 'comparison.json').read_text())
    good = content['methods']['good']
    assert good['seeds'] == {'0': 60.0, '1': 61.0, '2': 59.1} and good['tried']['0.3'] == 1
    assert good['difference']['low'] == pytest.approx(9.89, abs=0.005)
    assert '](comparison.png)' in (tmp_path / 'comparison.md').read_text()
    assert (tmp_path / 'comparison.png').stat().st_size > 10000


def test_report_without_a_metric(tmp_path):
    rows = dict(alone=Row({0: dict(metrics={}, ms_per_step=5.0, memory_mb=None)}))
    comparison = Comparison('s', None, False, rows, teacher_note='random weights', smoke=True)
    assert 'random weights' in write_report(comparison, tmp_path)
    assert not (tmp_path / 'comparison.png').exists()
