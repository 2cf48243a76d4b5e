"""Figures of features: equal colours for equal content, one scale for what is compared."""

import numpy as np
import pytest

from mmdiffkd.visualization import Level, pair_figure, to_image
from mmdiffkd.visualization.canvas import colouring


@pytest.fixture
def random():
    return np.random.default_rng(0)


def level_of(random, channels=16, size=(6, 9), gamma=True, number=2):
    target = random.normal(size=(number, channels, *size)).astype(np.float32)
    aligned = target + random.normal(size=target.shape)
    refined = target + 0.1 * random.normal(size=target.shape)
    gamma = np.linspace(0.25, 0.75, number) if gamma else None
    return Level(aligned, refined, target, gamma)


def test_colours_follow_content(random):
    """Differences in the directions of the target are visible, others are not."""
    target = np.zeros((1, 8, 4, 4))
    target[0, :3] = random.normal(size=(3, 4, 4))
    colours_of = colouring(target)
    colours = colours_of(target[0])
    assert colours.shape == (4, 4, 3) and colours.min() >= 0 and colours.max() <= 1
    elsewhere = target[0] + 5 * (np.arange(8) > 2)[:, None, None]
    np.testing.assert_allclose(colours_of(elsewhere), colours, atol=1e-6)
    assert np.abs(colours_of(target[0] + 1) - colours).max() > 0.2
    jitter = colouring(target + 1e-6 * random.normal(size=target.shape))
    np.testing.assert_allclose(jitter(target[0]), colours, atol=1e-3)


@pytest.mark.parametrize('channels', [1, 2, 2048])
def test_few_and_many_channels(channels, random):
    target = random.normal(size=(2, channels, 3, 4)).astype(np.float32)
    assert colouring(target)(target[0]).shape == (3, 4, 3)


def test_rows_and_columns(random):
    images = random.integers(0, 255, size=(2, 32, 48, 3)).astype(np.uint8)
    levels = {0: level_of(random), 1: level_of(random, size=(3, 4))}
    figure = pair_figure('fpn', levels, images)
    shown = [axes for axes in figure.axes if axes.images]
    sizes = [axes.images[0].get_array().shape[:2] for axes in shown]
    assert sizes == 2 * [(32, 48), *[(6, 9)] * 5, (32, 48), *[(3, 4)] * 5]
    assert 'image 1\nlevel 1\n16 channels\n3 x 4' in [axes.get_ylabel() for axes in shown]
    gammas = [axes.get_title() for axes in shown if 'γ' in axes.get_title()]
    assert gammas == ['γ = 0.25'] * 2 + ['γ = 0.75'] * 2
    assert to_image(figure).std() > 20


def test_distances_share_a_scale(random):
    level = level_of(random, number=1)
    figure = pair_figure('fpn', {0: level})
    before, after = [axes for axes in figure.axes if 'distance' in axes.get_title()]
    distance = ((level.aligned - level.target) ** 2).mean(1)[0]
    np.testing.assert_allclose(before.images[0].get_array(), distance)
    assert before.images[0].get_clim() == after.images[0].get_clim() == (0, distance.max())
    error = ((level.refined - level.target) ** 2).mean()
    assert float(after.get_title().split()[-1]) == pytest.approx(error, rel=0.01)


def test_pairs_without_denoising_have_no_column_for_it(random):
    figure = pair_figure('stem', {0: level_of(random, gamma=False)})
    headers = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert headers == ['student', 'teacher', 'distance\nto teacher']


@pytest.mark.parametrize('channels, shown', [(10, 10), (1000, 40)])
def test_vectors_are_bars(channels, shown, random):
    level = level_of(random, channels=channels, size=(1, 1), number=1)
    figure = pair_figure('logits', {0: level})
    bars = {axes: [bar.get_height() for bar in axes.patches] for axes in figure.axes[:5]}
    assert {len(heights) for heights in bars.values()} == {shown}
    largest = np.sort(level.target.ravel())[::-1][:shown]
    np.testing.assert_allclose(sorted(bars[figure.axes[2]], reverse=True), largest)
    assert len({axes.get_ylim() for axes in list(bars)[:3]}) == 1


@pytest.mark.parametrize('features', [np.ones((1, 4, 3, 3)), np.zeros((1, 4, 1, 1))])
def test_equal_features(features):
    assert to_image(pair_figure('Pair', {0: Level(features, features, features)})).std() > 0
