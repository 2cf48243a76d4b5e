"""Packaging of mmdiffkd."""

import re
import shutil
from pathlib import Path
from typing import Dict, List

from setuptools import Command, find_packages, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """The version, read without importing the package and what it needs."""
    text = (ROOT / 'mmdiffkd' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '(.+)'$", text, re.MULTILINE).group(1)


def requirements(name: str) -> List[str]:
    """The packages that ``requirements/<name>.txt`` lists."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


class BuildMim(Command):
    """Put configs, tools and the model index into the package's folder ``.mim``.

    There mmengine looks for ``mmdiffkd::...`` configs and mim for tools. In the source tree, and so
    in an editable install, ``mmdiffkd/.mim`` holds links to the same files.
    """

    FOLDERS = {'configs': ('.py', '.yml'), 'tools': ('.py', '.sh')}
    # They set up the source tree that they lie in.
    EXCLUDED = {'tools/quickstart.sh', 'tools/run_tests.sh', 'tools/setup_env.sh'}

    description = 'copy configs, tools and the model index into mmdiffkd/.mim'
    user_options = [('build-lib=', 'd', 'directory to build in')]
    editable_mode = False

    def initialize_options(self) -> None:  # noqa: D102
        self.build_lib = None

    def finalize_options(self) -> None:  # noqa: D102
        self.set_undefined_options('build_py', ('build_lib', 'build_lib'))

    def get_source_files(self) -> List[str]:
        """All files to copy, relative to the source tree."""
        files = [
            path.relative_to(ROOT).as_posix()
            for folder, suffixes in self.FOLDERS.items()
            for path in sorted((ROOT / folder).rglob('*'))
            if path.suffix in suffixes
        ]
        return ['model-index.yml', *(file for file in files if file not in self.EXCLUDED)]

    def get_output_mapping(self) -> Dict[str, str]:
        """Where each file goes, as ``{destination: source}``."""
        return {f'{self.build_lib}/mmdiffkd/.mim/{file}': file for file in self.get_source_files()}

    def get_outputs(self) -> List[str]:
        """All files made."""
        return list(self.get_output_mapping())

    def run(self) -> None:
        """Copy the files, unless they are used where they are."""
        if self.editable_mode:
            return
        # An earlier build may have left files that are gone from the source tree.
        shutil.rmtree(Path(self.build_lib, 'mmdiffkd/.mim'), ignore_errors=True)
        for destination, source in self.get_output_mapping().items():
            self.mkpath(str(Path(destination).parent))
            self.copy_file(source, destination)


class Build(build):
    """The usual build and ``.mim``."""

    sub_commands = [*build.sub_commands, ('build_mim', None)]


setup(
    name='mmdiffkd',
    version=version(),
    description='Knowledge Diffusion for Distillation (DiffKD) for the OpenMMLab libraries',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords=['knowledge distillation', 'diffusion model', 'OpenMMLab', 'object detection'],
    project_urls={'Paper': 'https://arxiv.org/abs/2305.15712'},
    license='Apache-2.0',
    packages=find_packages(include=['mmdiffkd', 'mmdiffkd.*']),
    cmdclass=dict(build=Build, build_mim=BuildMim),
    entry_points=dict(console_scripts=['mmdiffkd = mmdiffkd.__main__:main']),
    python_requires='>=3.10',
    # mmengine comes as `mmengine` or `onedl-mmengine`; the README says how to install either with
    # the host libraries, so neither is forced here.
    install_requires=requirements('runtime'),
    extras_require=dict(docs=requirements('docs'), tests=requirements('tests')),
    classifiers=[
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        # What the tests have passed with: README.md, "Versions", has the date.
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
