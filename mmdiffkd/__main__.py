"""The tools as commands, from anywhere: ``mmdiffkd train CONFIG``.

The same as ``python -m mmdiffkd train CONFIG``, and as ``python tools/train.py CONFIG`` in the
source tree. On several GPUs:
``torchrun --nproc_per_node 8 -m mmdiffkd train CONFIG --launcher pytorch``.
"""

import ast
import runpy
import sys
from pathlib import Path

TOOLS = Path(__file__).resolve().parent / '.mim' / 'tools'


def main() -> None:
    """Run the tool that the first argument names with the arguments that follow."""
    tools = {path.stem: path for path in sorted(TOOLS.glob('*.py')) if _is_script(path)}
    name = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if name in ('-h', '--help'):
        print('usage: mmdiffkd TOOL [arguments]; mmdiffkd TOOL --help says more\n')
        for tool, path in tools.items():
            print(f'  {tool:20} {_summary(path)}')
        return
    if name not in tools:
        sys.exit(f'error: mmdiffkd has no tool {name!r}; it has {", ".join(tools)}')
    sys.argv[:2] = [str(tools[name])]
    # As Python does for a script: a tool's own modules lie beside it.
    sys.path.insert(0, str(TOOLS))
    runpy.run_path(sys.argv[0], run_name='__main__')


def _is_script(path: Path) -> bool:
    return "__name__ == '__main__'" in path.read_text(encoding='utf-8')


def _summary(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))).splitlines()[0]


if __name__ == '__main__':
    main()
