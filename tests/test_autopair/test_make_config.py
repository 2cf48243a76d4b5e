"""The config that is written for two others."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmdiffkd.apis import distill
from mmdiffkd.autopair import make_config as make_module
from mmdiffkd.autopair.make_config import make_config, write_config
from mmdiffkd.errors import ConfigError


@pytest.fixture
def files(config_file):
    return dict(
        student=config_file('small', type='PairedClassifier'),
        teacher=config_file('large', type='PairedClassifier', width=6),
    )


@pytest.fixture
def made(tmp_path, files):
    """Make a config and read it back; returns the config and its text."""

    def make(**options):
        path = tmp_path / 'work' / 'config' / 'made.py'
        text = make_config(path, **{**files, 'teacher_checkpoint': 'random', **options})
        write_config(path, text)
        return Config.fromfile(path), text

    return make


def test_a_written_config_is_built_as_it_was_meant(made, files):
    cfg, text = made()
    assert list(cfg.model.pairs) == ['features', 'logits']
    assert cfg.model.teacher == dict(config=files['teacher'], checkpoint='random')
    distiller = MODELS.build(dict(cfg.model, data=cfg.train_dataloader))
    assert set(distiller.pairs) == {'features', 'logits'}
    assert '#   student  4x28x28' in text and '--work-dir' in text


@pytest.mark.parametrize('kind', ['Classifier', 'Segmentor', 'Detector'])
def test_images_are_resized_for_a_teacher_that_works_at_its_own_size_only(kind, made, config_file):
    pytest.importorskip('mmcv.transforms')
    student = config_file('student', type=f'Paired{kind}')
    teacher = config_file('usual', type=f'Paired{kind}', side=64)
    assert made(student=student, teacher=teacher)[0].model.teacher.image_size == (64, 64)
    teacher = config_file('fixed', type=f'Paired{kind}', side=72)
    with pytest.raises(ConfigError, match='teacher: the dry forward of a blank 224x224 image'):
        made(student=student, teacher=teacher)
    with Path(teacher).open('a') as config:
        config.write(
            "train_dataloader['dataset']['pipeline'] = [dict(type='Resize', scale=(72, 72))]"
        )
    cfg, _ = made(student=student, teacher=teacher)
    assert cfg.model.teacher.image_size == (72, 72)
    distiller = MODELS.build(dict(cfg.model, data=cfg.train_dataloader))
    assert '4x9x9' in next(iter(distiller.pairs.values())).summary.partition('teacher')[2]


def test_a_student_with_a_teacher_of_its_own_is_refused(made, config_file):
    @MODELS.register_module(force=True)
    class SemiSupervised(MODELS.get('PairedClassifier')):
        teacher = None

    with pytest.raises(ConfigError, match="SemiSupervised has a module 'teacher' of its own"):
        made(student=config_file('semi', type='SemiSupervised'))


@pytest.mark.parametrize('clipping', [dict(max_norm=1), None])
def test_the_student_s_own_clipping_and_hooks_stay(clipping, made, files):
    with Path(files['student']).open('a') as config:
        config.write(f"optim_wrapper['clip_grad'] = {clipping}\n")
        config.write("custom_hooks = [dict(type='EMAHook')]\n")
    cfg, _ = made()
    assert cfg.optim_wrapper.clip_grad == (clipping or dict(max_norm=35, norm_type=2))
    hooks = [hook.type for hook in cfg.custom_hooks]
    assert hooks == ['EMAHook', 'mmdiffkd.FeaturePictureHook', 'mmdiffkd.TelemetryHook']


@pytest.mark.parametrize('classes', [('cat', 'dog'), ('dog', 'cat')])
def test_scores_of_other_classes_are_left_out(classes, made, files, tmp_path):
    """The student's are those of its data, the teacher's those of its file."""
    with Path(files['student']).open('a') as config:
        config.write("train_dataloader['dataset'].update(metainfo=dict(classes=['cat', 'dog']))\n")
    path = tmp_path / 'weights.pth'
    state = MODELS.build(dict(type='PairedClassifier', width=6)).state_dict()
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(classes=classes))), path)
    cfg, text = made(teacher_checkpoint=str(path))
    same = classes == ('cat', 'dog')
    assert ('logits' in cfg.model.pairs) is same and ('# No pair of scores: ' in text) is not same


def test_an_edited_config_is_kept(tmp_path):
    for text in ('first', 'first', 'second', 'third'):
        write_config(tmp_path / 'made.py', text)
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents == {'made.py': 'third', 'made_old1.py': 'first', 'made_old2.py': 'second'}


def test_an_edited_config_is_not_resumed_as_another(files, tmp_path, monkeypatch):
    trained = []
    parts = distill.__globals__
    monkeypatch.setitem(parts, 'train', lambda cfg, *_: trained.append(cfg))
    arguments = dict(files, teacher_checkpoint='random', work_dir=str(tmp_path / 'work'))
    distill(**arguments)
    distill(**arguments, resume=True)
    assert [cfg.get('resume') for cfg in trained] == [None, 'auto']
    path = Path(trained[0].filename)
    path.write_text(edited := f'{path.read_text()}# mine')
    with pytest.raises(ConfigError, match=f'{path} --work-dir .*work --resume'):
        distill(**arguments, resume=True)
    assert [file.read_text() for file in path.parent.iterdir()] == [edited]


def test_mistakes_in_the_data_come_before_the_models(files, tmp_path, monkeypatch):
    monkeypatch.setattr(make_module, 'build_model', lambda *_: pytest.fail('a model was built'))
    with Path(files['student']).open('a') as config:
        config.write("data = dict(type='mmengine.dataset.BaseDataset', ann_file='a.json')\n")
        config.write("train_dataloader['dataset'] = data\n")
    files.update(teacher_checkpoint='random', work_dir=str(tmp_path / 'work'))
    with pytest.raises(ConfigError, match="train_dataloader.dataset.ann_file: no file 'a.json'"):
        distill(**files)
    monkeypatch.undo()
    monkeypatch.setitem(distill.__globals__, 'train', lambda *_: None)
    distill(**files, cfg_options={'check_data': False, 'model.pairs.features.loss_weight': 2})


def test_checkpoint_of_a_teacher(made, files):
    with pytest.raises(ConfigError, match='--teacher-checkpoint is needed: .*large.py'):
        made(teacher_checkpoint=None)
    assert made(teacher_checkpoint=None, smoke=True)[0].model.teacher.checkpoint == 'random'
    for given, meant in (('a.pth', str(Path('a.pth').resolve())), ('https://a.pth',) * 2):
        assert made(teacher_checkpoint=given)[0].model.teacher.checkpoint == meant


def test_unusable_configs_are_named(made, files, config_file):
    made()[0].dump(Path(files['student']).with_name('distilled.py'))
    with pytest.raises(ConfigError, match='student: .* is a distillation config already'):
        made(student=str(Path(files['student']).with_name('distilled.py')))


def test_arguments_and_keys_are_checked(files):
    with pytest.raises(TypeError, match="no argument 'resum'"):
        distill(**files, resum=True)
    Path(files['student']).write_text("model = dict(type='PairedClassifier')\n")
    with pytest.raises(ConfigError, match='has no train_dataloader, train_cfg, optim_wrapper'):
        distill(**files)
