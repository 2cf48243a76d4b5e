"""The tools as commands, from anywhere: ``mmdiffkd train CONFIG``.

The same as ``python -m mmdiffkd train CONFIG``, and as ``python tools/train.py CONFIG`` in the
source tree. On several GPUs:
``torchrun --nproc_per_node 8 -m mmdiffkd train CONFIG --launcher pytorch``.
"""

import ast
import runpy
import sys
from pathlib import Path
from typing import Dict

from mmdiffkd import __version__
from mmdiffkd.command_line import TOOLS
from mmdiffkd.errors import one_line_errors, suggest

# Parts of the quickstart.
NO_COMMANDS = ('quickstart_picture', 'quickstart_stages')


def main() -> None:
    """Run the tool that the first argument names with the arguments that follow."""
    paths = sorted(
        (*TOOLS.glob('*.py'), *TOOLS.glob('analysis/[!_]*.py')), key=lambda path: path.stem
    )
    tools = {path.stem: path for path in paths if path.stem not in NO_COMMANDS}
    is_module = Path(sys.argv[0]).name == '__main__.py'
    command = 'python -m mmdiffkd' if is_module else 'mmdiffkd'
    name, *arguments = sys.argv[1:] or ['help']
    if name == 'help' and arguments:
        name, arguments = arguments[0], ['--help']
    tool = name.replace('-', '_')
    with one_line_errors():
        if name in ('help', '--help', '-h'):
            print(_usage(command, tools))
            return
        if name == '--version':
            print(f'mmdiffkd {__version__}')
            return
        if tool not in tools:
            hint = suggest(tool, tools) or f'; it has {", ".join(tools)}'
            raise SystemExit(f'mmdiffkd has no tool {name!r}{hint}')
    # What the usage of a tool begins with, and its hints on other tools.
    sys.argv = [f'{command} {tool}', *arguments]
    # As Python does for a script: a tool's own modules lie beside it.
    sys.path.insert(0, str(tools[tool].parent))
    runpy.run_path(str(tools[tool]))['main']()


def _usage(command: str, tools: Dict[str, Path]) -> str:
    lines = [f'  {name:20} {_summary(path)}' for name, path in tools.items()]
    usage = f'usage: {command} TOOL [arguments]\n       {command} help [TOOL] | --version\n'
    return '\n'.join([usage, *lines])


def _summary(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))).splitlines()[0]


if __name__ == '__main__':
    main()
