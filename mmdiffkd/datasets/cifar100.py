"""CIFAR-100 of mmpretrain without check sums of its files."""

from mmpretrain.datasets import CIFAR100


class UnverifiedCIFAR100(CIFAR100):
    """mmpretrain's ``CIFAR100``, which also reads files that are not the original ones.

    The original class recognises its files by their MD5 sums, and downloads over any other, such
    as those of :func:`mmdiffkd.testing.make_mini_dataset`. This one takes the files that are
    there. The archive that it downloads if there are none is still verified. Configs name it by
    its path: ``type='mmdiffkd.datasets.cifar100.UnverifiedCIFAR100'``.
    """

    train_list = [['train', None]]
    test_list = [['test', None]]
    meta = dict(CIFAR100.meta, md5=None)
