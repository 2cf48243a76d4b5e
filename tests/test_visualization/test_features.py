"""Pictures of features: same colours for same content, one scale for what is compared."""

import numpy as np
import pytest

from mmdiffkd.visualization import Level, pair_figure, to_image
from mmdiffkd.visualization.colouring import Colouring


@pytest.fixture
def random():
    return np.random.default_rng(0)


def level_of(random, channels=16, size=(6, 9), gamma=True, number=2):
    target = random.normal(size=(number, channels, *size)).astype(np.float32)
    aligned = target + random.normal(size=target.shape)
    refined = target + 0.1 * random.normal(size=target.shape)
    gamma = np.linspace(0.25, 0.75, number) if gamma else None
    return Level(aligned, refined, target, gamma)


def titles(figure):
    return [axes.get_title() for axes in figure.axes]


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_colours_follow_content(random):
    """Differences that the target shows are seen, those in other directions are not."""
    target = np.zeros((1, 8, 4, 4))
    target[0, :3] = random.normal(size=(3, 4, 4))
    colouring = Colouring(target)
    colours = colouring(target[0])
    assert colours.shape == (4, 4, 3) and colours.min() >= 0 and colours.max() <= 1
    assert all(colours[..., channel].std() > 0.2 for channel in range(3))
    elsewhere = target[0] + 5 * (np.arange(8) > 2)[:, None, None]
    np.testing.assert_allclose(colouring(elsewhere), colours, atol=1e-6)
    assert np.abs(colouring(target[0] + 1) - colours).max() > 0.2


def test_colours_do_not_flip_with_the_sign_of_a_component(random):
    target = random.normal(size=(2, 8, 5, 5))
    jitter = target + 1e-6 * random.normal(size=target.shape)
    np.testing.assert_allclose(
        Colouring(target)(target[0]), Colouring(jitter)(target[0]), atol=1e-3
    )


@pytest.mark.parametrize('channels', [1, 2, 2048])
def test_few_and_many_channels(channels, random):
    target = random.normal(size=(2, channels, 3, 4)).astype(np.float32)
    assert Colouring(target)(target[0]).shape == (3, 4, 3)


def test_rows_and_columns(random):
    images = random.integers(0, 255, size=(2, 32, 48, 3)).astype(np.uint8)
    levels = [level_of(random), level_of(random, size=(3, 4))]
    figure = pair_figure('Pair fpn', levels, images)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 2 * 2 * 6
    # The first row belongs to image 1 at level 0, the second to the same image at level 1.
    assert [axes.images[0].get_array().shape[:2] for axes in shown[:12:6]] == [(32, 48)] * 2
    assert [axes.images[0].get_array().shape[:2] for axes in shown[1:12:6]] == [(6, 9), (3, 4)]
    assert 'image 1\nlevel 1\n16 channels\n3 x 4' in texts(figure)
    assert [title for title in titles(figure) if 'γ' in title] == ['γ = 0.25', 'γ = 0.25'] + [
        'γ = 0.75'
    ] * 2
    assert to_image(figure).std() > 20


def test_distances_before_and_after_share_a_scale_and_are_numbers(random):
    level = level_of(random, number=1)
    figure = pair_figure('Pair fpn', [level])
    before, after = [axes for axes in figure.axes if 'mean square' in axes.get_title()]
    assert before.images[0].get_clim() == after.images[0].get_clim()
    root = np.sqrt(((level.aligned - level.target) ** 2).mean(1))[0]
    np.testing.assert_allclose(before.images[0].get_array(), root)
    assert before.images[0].get_clim() == (0, pytest.approx(root.max()))
    for axes, feature in ((before, level.aligned), (after, level.refined)):
        assert float(axes.get_title().split()[-1]) == pytest.approx(
            ((feature - level.target) ** 2).mean(), rel=0.01
        )


def test_pairs_without_denoising_have_no_column_for_it(random):
    figure = pair_figure('Pair stem', [level_of(random, gamma=False)])
    assert {'student', 'teacher', 'distance to teacher'} < set(texts(figure))
    assert not [text for text in texts(figure) if 'denois' in text or 'γ' in text]


@pytest.mark.parametrize('channels, shown', [(10, 10), (1000, 40)])
def test_vectors_are_bars(channels, shown, random):
    level = level_of(random, channels=channels, size=(1, 1), number=1)
    figure = pair_figure('Pair logits', [level])
    bars = {axes: [bar.get_height() for bar in axes.patches] for axes in figure.axes}
    student, denoised, teacher, *distances = bars.values()
    assert {len(heights) for heights in bars.values()} == {shown}
    largest = np.sort(level.target.ravel())[::-1][:shown]
    np.testing.assert_allclose(sorted(teacher, reverse=True), largest)
    assert len({axes.get_ylim() for axes in list(bars)[:3]}) == 1
    assert len({axes.get_ylim() for axes in list(bars)[3:]}) == 1
    assert min(distances[0]) >= 0


def test_equal_features(random):
    """Nothing to divide by: a constant target, no distance."""
    same = np.ones((1, 4, 3, 3))
    assert to_image(pair_figure('Pair', [Level(same, same, same)])).std() > 0
    vector = np.zeros((1, 4, 1, 1))
    assert to_image(pair_figure('Pair', [Level(vector, vector, vector)])).std() > 0
