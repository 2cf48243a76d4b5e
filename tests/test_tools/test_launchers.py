"""The launchers pass arguments on as they are; no shell interprets them."""

import os
import subprocess

import pytest

from .conftest import ROOT


@pytest.mark.parametrize(
    'command',
    ['dist_train.sh X 2 X', 'dist_test.sh X X 2 X', 'slurm_train.sh X X X X X'],
    ids=lambda command: command.split()[0],
)
def test_arguments_arrive_as_they_are(command, tmp_path):
    """In place of Python and srun a script runs that prints its arguments, one per line."""
    printer = tmp_path / 'srun'
    printer.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    printer.chmod(0o755)
    witness = tmp_path / 'it_ran'
    text = f'a b; touch {witness} $(touch {witness}) `touch {witness}` & | > {witness} *'
    script, *words = command.split()
    arguments = [text if word == 'X' else word for word in words]
    output = subprocess.run(
        ['bash', ROOT / 'tools' / script, *arguments],
        env=dict(os.environ, PYTHON=str(printer), PATH=f'{tmp_path}:{os.environ["PATH"]}'),
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    assert sum(line.endswith(text) for line in output.splitlines()) == arguments.count(text)
    assert not witness.exists()
