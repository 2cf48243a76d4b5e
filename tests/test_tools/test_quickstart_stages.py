"""The quickstart skips what is finished, and only that."""

import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / 'tools/quickstart_stages.py'


@pytest.fixture(scope='module')
def stages_module():
    spec = importlib.util.spec_from_file_location('quickstart_stages', SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(stages_module, tmp_path):
    """Run steps a and b with the given settings; return the names of those that were done."""

    def run(settings_a=0, settings_b=0, fresh=False, fails=()):
        done = []
        stages = stages_module.Stages(total=2, fresh=fresh)
        for name, settings in (('a', settings_a), ('b', settings_b)):

            def work(name=name):
                assert [p.name for p in (tmp_path / name).iterdir()] == [stages_module.MARKER]
                (tmp_path / name / 'result').write_text(name)
                if name in fails:
                    raise KeyboardInterrupt
                done.append(name)

            stages.run(name, tmp_path / name, dict(settings=settings), work)
        return done

    return run


def test_finished_steps_are_skipped(run):
    assert run() == ['a', 'b']
    assert run() == []
    assert run(fresh=True) == ['a', 'b']
    assert run(settings_b=1) == ['b']
    assert run(settings_a=1, settings_b=1) == ['a', 'b']


@pytest.mark.parametrize('interrupted, left', [('a', ['a', 'b']), ('b', ['b'])])
def test_interrupted_step_is_done_again(run, interrupted, left):
    with pytest.raises(KeyboardInterrupt):
        run(fails=[interrupted])
    assert run() == left


def test_foreign_directory_is_not_touched(run, tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a/thesis.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='nothing was touched'):
        run(fresh=True)
    assert [p.name for p in (tmp_path / 'a').iterdir()] == ['thesis.txt']


def test_failure_of_a_script_is_shown(stages_module, tmp_path, capfd):
    script = tmp_path / 'script.py'
    script.write_text('import sys\nprint(sys.argv[1])\nraise SystemExit("it broke")\n')
    with pytest.raises(RuntimeError, match='script.py failed'):
        stages_module.run_logged([script, 'hello'], tmp_path / 'log/out.log')
    out, err = capfd.readouterr()
    assert 'hello' in out and 'it broke' in err
    assert 'it broke' in (tmp_path / 'log/out.log').read_text()
