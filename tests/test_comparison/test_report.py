"""Statistics and report of a comparison, from made-up results."""

import json
from dataclasses import replace

import pytest

from mmdiffkd.comparison.report import Comparison, Row, sentences, table, write_report
from mmdiffkd.comparison.statistics import difference, holm


def test_only_the_same_seeds_are_compared():
    found = difference({0: 5.0, 1: 7.0, 2: 9.0, 4: 50.0}, {2: 6.0, 1: 5.0, 0: 4.0, 3: -9.0})
    # Differences 1, 2, 3: 4.303 is Student's t for two degrees of freedom and 95 %.
    assert (found.seeds, found.mean) == (3, 2) and found.p == pytest.approx(0.0742, abs=1e-4)
    half = 4.303 / 3**0.5
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half), abs=1e-3)
    assert difference({0: 1.0}, {1: 1.0}) is None


def test_differences_without_spread():
    assert difference({0: 1.5}, {0: 1.0}) == (1, 0.5, None, None, 1)
    assert difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1
    assert difference({0: 1.5, 1: 2.5}, {0: 1.0, 1: 2.0}) == (2, 0.5, 0.5, 0.5, 0)


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
    return Comparison('s, taught by t', rows, 'mIoU', teacher=70.0)


def test_table_and_sentences(comparison):
    lines = [
        [cell.strip() for cell in line.split('|')[1:-1]] for line in table(comparison).split('\n')
    ]
    cells = {line[0]: line[1:] for line in lines if line}
    assert cells['teacher'][2] == '70.00'
    assert cells['alone'] == ['', '3', '50.00 ± 1.00', '', '', '101', '900']
    assert cells['good'][:4] == ['x 0.3', '3', '60.03 ± 0.95', '+10.03']
    assert cells['good'][4] == '+9.89 to +10.18'
    assert cells['unclear'][1:3] == ['2', '51.00 ± 1.41; failed']
    assert cells['broken'][2] == 'failed'
    said = sentences(comparison)
    assert said[0].startswith('good is better than the student alone')
    # Its interval leaves out 0, but it is one of three.
    assert comparison.difference('maybe').low > 0 and said[1].startswith('maybe: no difference')
    assert said[2] == 'unclear: no difference to the student alone can be told from 2 seeds.'
    assert said[3] == 'The best mean is that of good; it cannot be told from unclear.'
    assert 'Holm' in said[4]
    assert comparison.failed


def test_of_a_loss_less_is_better(comparison):
    said = sentences(replace(comparison, is_loss=True))
    assert 'good is worse than the student alone' in said[0]
    assert 'best mean is that of alone' in said[3]


def test_the_best_is_compared_with_the_student_alone_once(comparison):
    comparison.rows['alone'] = row(50.0, 61.0, 56.0)
    said = sentences(comparison)
    assert said[0].startswith('good: no difference to the student alone')
    assert said[3] == 'The best mean is that of good; it cannot be told from unclear.'
    pair = {name: comparison.rows[name] for name in ('alone', 'good')}
    assert len(sentences(replace(comparison, rows=pair))) == 1


def test_one_seed_says_nothing():
    comparison = Comparison('', dict(alone=row(50.0), kd=row(90.0)), 'mIoU')
    assert sentences(comparison)[0].endswith('can be told from 1 seed.')
    cells = [cell.strip() for cell in table(comparison).splitlines()[-1].split('|')]
    assert cells[5:7] == ['+40.00', ''] and not comparison.failed


def test_report(comparison, tmp_path):
    text = write_report(comparison, tmp_path)
    assert text.startswith('# s, taught by t') and 'unclear failed: RuntimeError: a | b' in text
    content = json.loads((tmp_path / 'comparison.json').read_text())
    good = content['rows']['good']
    assert good['seeds'] == {'0': 60.0, '1': 61.0, '2': 59.1} and good['tried']['0.3'] == 1
    assert good['over_alone']['low'] == pytest.approx(9.89, abs=0.005)
    assert '](comparison.png)' in (tmp_path / 'comparison.md').read_text()
    assert (tmp_path / 'comparison.png').stat().st_size > 10000


def test_report_without_a_metric(tmp_path):
    rows = dict(alone=Row({0: dict(metrics={}, ms_per_step=5.0, memory_mb=None)}))
    comparison = Comparison('s', rows, smoke=True)
    assert 'random weights' in write_report(comparison, tmp_path)
    assert not (tmp_path / 'comparison.png').exists()
