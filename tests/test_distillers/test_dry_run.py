"""Who is blamed for images that a model does not take."""

import pytest
import torch

from mmdiffkd.distillers.dry_run import blaming_size


def test_the_size_of_the_images_is_named():
    with pytest.raises(RuntimeError, match='teacher: failed on images of 5x7, .*: too small'):
        with blaming_size('teacher', torch.zeros(1, 3, 5, 7)):
            raise AssertionError('too small')
