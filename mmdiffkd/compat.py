"""The one place that knows how the OneDL and the upstream builds of OpenMMLab differ."""

from importlib.util import find_spec


def apply() -> None:
    """Mend what keeps one of the two families from working. Safe to call more than once."""
    # mmdiffkd.diffusion is usable with torch alone.
    if find_spec('mmengine') is None:
        return
    from mmengine.config.utils import MODULE2PACKAGE

    # `_base_ = 'mmseg::...'` looks for a distribution of this name. Upstream's is called
    # mmsegmentation, OneDL's onedl-mmsegmentation; mmengine finds both by their module's name.
    MODULE2PACKAGE['mmseg'] = 'mmseg'
