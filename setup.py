"""Packaging of mmdiffkd."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version, read without importing the package and what it needs."""
    text = (ROOT / 'mmdiffkd' / '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


setup(
    name='mmdiffkd',
    version=version(),
    description='Knowledge Diffusion for Distillation (DiffKD) for the OpenMMLab libraries',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmdiffkd', 'mmdiffkd.*']),
    python_requires='>=3.10',
    # mmengine comes as `mmengine` or `onedl-mmengine`; the README says how to install either with
    # the host libraries, so neither is forced here.
    install_requires=['numpy', 'torch>=2.6'],
    classifiers=[
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
