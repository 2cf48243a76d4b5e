"""Who is blamed for images that a model does not take."""

import pytest
import torch

from mmdiffkd.distillers.dry_run import blaming_size


def test_the_size_of_the_images_is_named():
    images = torch.zeros(1, 3, 5, 7)
    message = 'teacher: failed on images of 5x7, .*: too small'
    with pytest.raises(RuntimeError, match=message), blaming_size('teacher', images):
        raise AssertionError('too small')
