"""The quickstart skips what is finished, and only that."""

import importlib.util
import sys
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


def test_fresh_does_all_again(run):
    run()
    assert run(fresh=True) == ['a', 'b']


def test_changed_settings_redo_the_step_and_what_follows(run):
    run()
    assert run(settings_b=1) == ['b']
    assert run(settings_a=1, settings_b=1) == ['a', 'b']


@pytest.mark.parametrize('interrupted, left', [('a', ['a', 'b']), ('b', ['b'])])
def test_interrupted_step_is_done_again(run, interrupted, left):
    with pytest.raises(KeyboardInterrupt):
        run(fails=[interrupted])
    assert run() == left
    with pytest.raises(KeyboardInterrupt):
        run(fresh=True, fails=[interrupted])
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


def test_progress_of_a_training_log(stages_module):
    show = stages_module.show_progress
    head = '11/21 01:12:13 - mmengine - INFO - '
    train = (
        f'{head}Epoch(train)  [2][{{}}/40]  lr: 1.0e-03  eta: 0:01:09  time: 0.1570  '
        f'data_time: 0.01  loss: 1.2588  loss_cls: 0.7034  gamma_fpn: 0.5'
    )
    assert show(train.format('30')) is None
    assert show(train.format('40')) == (
        'epoch  2   157 ms per step   0:01:09 left   loss 1.2588   loss_cls 0.7034'
    )
    assert show(f'{head}Epoch(val) [24][10/10]    eta: 0:00:00  time: 0.0778') is None
    val = f'{head}Epoch(val) [24][10/10]    coco/bbox_mAP: 0.5220  coco/bbox_mAP_50: 0.7430'
    assert show(val) == 'AP 0.5220   AP50 0.7430'
    assert show('anything else') is None


def test_scripts_run_with_this_python(stages_module, tmp_path):
    script = tmp_path / 'script.py'
    script.write_text('import sys\nprint(sys.executable)\n')
    stages_module.run_logged([script], tmp_path / 'out.log')
    assert (tmp_path / 'out.log').read_text().strip() == sys.executable
