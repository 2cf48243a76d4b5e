"""The table of bad inputs: what is wrong, what the one line says about it, and how it is given.

Rows of a config change the toy run of ``toy_files.py`` by Python lines at its end.
"""

import shutil
from typing import Callable, NamedTuple, Optional, Sequence

import torch

TEACHER, PAIR = "model['teacher']", "model['pairs']['fpn']"
LOADER, DATA = 'train_dataloader', "train_dataloader['dataset']"


class Row(NamedTuple):
    """One bad input.

    Attributes:
        wrong: What is wrong with it.
        said: A part of the one line.
        change: Python lines at the end of the config.
        argv: After the config.
        make: Changes the files in a folder, before the run.
    """

    wrong: str
    said: str
    change: str = ''
    argv: Sequence[str] = ()
    make: Optional[Callable] = None


def pair(**keys):
    """Python line that sets keys of the pair."""
    return f'{PAIR}.update({", ".join(f"{key}={value!r}" for key, value in keys.items())})'


def head(**keys):
    return pair(head=dict(type='DiffKDHead', **keys))


def loss(**keys):
    return pair(loss=dict(keys))


MODEL = [
    Row('teacher is a name', 'teacher must be a dict with the keys config', "model['teacher'] = 'mmdet::x'"),
    Row('no teacher', "model: DiffKDDistiller needs 'teacher'", "del model['teacher']"),
    Row('key of the distiller', "DiffKDDistiller does not take 'techer'; did you mean 'teacher'", "model['techer'] = 1"),
    Row('type of the model', "no 'mmdiffkd.DifKDDistiller' in the mmengine::model registry; did you mean", "model['type'] = 'mmdiffkd.DifKDDistiller'"),
    Row('no type of the model', "model has no 'type'", "del model['type']"),
    Row('model is a list', 'model must be a dict, got [1]', 'model = [1]'),
    Row('no student', 'student must be a model dict, a path or a name', "model['student'] = None"),
    Row('student is no file', "student: no file 'student_r50.py'", "model['student'] = 'student_r50.py'"),
    Row('student of no type', "student: a model dict needs a 'type'", "model['student'] = dict(width=3)"),
    Row('type of the student', "student: cannot build 'ToyModl': no 'ToyModl' in the", "model['student'] = dict(type='ToyModl')"),
    Row('key of the student', "student: cannot build 'ToyModel': ToyModel does not take 'widht'; did you mean 'width'?", "model['student'] = dict(type='ToyModel', widht=3)"),
    Row('width of the student', "student: cannot build 'ToyModel': TypeError: ", "model['student'] = dict(type='ToyModel', width='8')"),
    Row('key of the teacher', "teacher: unknown key 'chekpoint'; did you mean 'checkpoint'", f"{TEACHER}['chekpoint'] = 'x'"),
    Row('no config of the teacher', "teacher: 'config' is required", f"{TEACHER}['config'] = None"),
    Row('teacher.config is a number', 'teacher.config must be a model dict, a path or a name like', f"{TEACHER}['config'] = 50"),
    Row('teacher.config is a folder', "teacher.config: no file 'data'", f"{TEACHER}['config'] = 'data'"),
    Row('library that is not there', "teacher.config: 'mmrotate::x.py' needs mmrotate, which is not installed", f"{TEACHER}['config'] = 'mmrotate::x.py'"),
    Row('name in a library', "did you mean 'retinanet/retinanet_r50_fpn_1x_coco.py'", f"{TEACHER}['config'] = 'mmdet::retinanet/retinanet_r50_fpn_1x_coc.py'"),
    Row('ignore_keys is no list', 'teacher.ignore_keys must be a list of patterns', f"{TEACHER}['ignore_keys'] = 'head'"),
    Row('ignore_keys is no pattern', 'is no regular expression: missing )', f"{TEACHER}['ignore_keys'] = ['(']"),
    Row('trust is a word', "teacher.trust_checkpoint must be True or False, got 'yes'", f"{TEACHER}['trust_checkpoint'] = 'yes'"),
    Row('precision', "teacher.precision must be None or one of 'fp32', 'bf16', 'fp16', got 'fp8'", f"{TEACHER}['precision'] = 'fp8'"),
    Row('init_from_teacher', "init_from_teacher: the student has no module 'nek'", "model['init_from_teacher'] = ['nek']"),
    Row('init_from_teacher is a number', 'init_from_teacher must be a list or a dict, got 3', "model['init_from_teacher'] = 3"),
]  # fmt: skip

PAIRS = [
    Row('pairs is a list', 'pairs must be a dict with at least one pair, got [1]', "model['pairs'] = [1]"),
    Row('no pair', 'pairs must be a dict with at least one pair, got {}', "model['pairs'] = {}"),
    Row('pair is a number', 'pairs.fpn must be a dict with the keys student, teacher', "model['pairs'] = dict(fpn=3)"),
    Row('name of a pair', "pairs: 'my loss' must be an identifier without", "model['pairs'] = {'my loss': {}}"),
    Row('name that torch has', "pairs: 'train' cannot name a pair", "model['pairs'] = {'train': {}}"),
    Row('key of a pair', "pairs.fpn: unknown key 'hed'; did you mean 'head'?", pair(hed=1)),
    Row('pair without loss', "pairs.fpn: 'loss' is required", pair(loss=None)),
    Row('loss is a word', "pairs.fpn.loss must be a dict with a 'type', got 'mse'", pair(loss='mse')),
    Row('type of a loss', "pairs.fpn.loss: no 'MSELos' in the registry; did you mean 'MSELoss'", loss(type='MSELos')),
    Row('type is a number', "pairs.fpn.loss: 'type' must be a name, got 3", loss(type=3)),
    Row('key of a loss', "pairs.fpn.loss (MSELoss): unknown key 'weight'; did you mean 'loss_weight'?", loss(type='MSELoss', weight=2)),
    Row('weight is a word', "loss_weight must be a number, got 'five'", loss(type='MSELoss', loss_weight='five')),
    Row('weight below 0', 'loss_weight must be a finite number from 0, got -1', loss(type='MSELoss', loss_weight=-1)),
    Row('weight is infinite', 'loss_weight must be a finite number from 0, got inf', f"{PAIR}['loss']['loss_weight'] = float('inf')"),
    Row('temperature 0', 'tau must be a finite number above 0, got 0', loss(type='KLDivLoss', tau=0)),
    Row('head as loss', "pairs.fpn.loss (DiffKDHead): DiffKDHead needs 'student_channels'", loss(type='DiffKDHead')),
    Row('head is a name', "pairs.fpn.head must be a dict with a 'type'", pair(head='DiffKDHead')),
    Row('type of a head', "pairs.fpn.head: no 'DifKDHead' in the registry; did you mean 'DiffKDHead'", pair(head=dict(type='DifKDHead'))),
    Row('channels in a head', "unknown key 'student_channels'", head(student_channels=8)),
    Row('no steps', 'num_steps must be between 1 and num_train_timesteps / 2 = 500, got 0', head(num_steps=0)),
    Row('too many steps', 'num_steps must be between 1 and', head(num_steps=2000)),
    Row('5.5 steps', 'num_steps must be an integer, got 5.5', head(num_steps=5.5)),
    Row('steps in quotes', "num_steps must be an integer, got '5'", head(num_steps='5')),
    Row('length of the chain', 'num_train_timesteps must be a positive integer, got -5', head(num_train_timesteps=-5)),
    Row('0 channels', 'ae_channels must be a positive integer or None, got 0', head(ae_channels=0)),
    Row('channels are a word', "ae_channels must be an integer or None, got 'wide'", head(ae_channels='wide')),
    Row('kernel of 2', 'kernel_size must be 3 (feature maps) or 1 (vectors), got 2', head(kernel_size=2)),
    Row('reduction', 'reduction must be a positive integer, got 0', head(reduction=0)),
    Row('weight of diffusion', "diffusion_weight must be a finite number from 0, got -1", head(diffusion_weight=-1)),
    Row('checkpoint of a head', "checkpoint must be True or False, got 'x.pth'", head(checkpoint='x.pth')),
    Row('path', "student path 'nek': ToyModel has no module 'nek'; the closest are 'neck'", pair(student='nek')),
    Row('path is a number', 'module path 3 is not of the form', pair(student=3)),
    Row('path with a bracket', "module path 'neck[' is not of the form", pair(teacher='neck[')),
    Row('index', "student path 'neck[9]': [9] does not apply to a tuple of Tensor, Tensor", pair(student='neck[9]')),
    Row('levels', "yields 1 maps, teacher path 'neck' 2; they are matched one to one", pair(student='backbone')),
    Row('path that runs nothing', 'never runs itself; name one of', pair(student='neck.convs')),
    Row('channels without head', 'without a head the channels must agree', pair(head=None)),
    Row('argument of an input', "no argument 'y' was given; the module takes x", pair(student='neck:input[y]')),
    Row('teacher_inputs', "is no input; write 'neck:input'", pair(teacher_inputs=dict(student='neck', teacher='neck'))),
]  # fmt: skip


def saved(content):
    return lambda folder: torch.save(content, folder / 'bad.pth')


def written(content):
    return lambda folder: (folder / 'bad.pth').write_bytes(content)


def truncated(folder):
    data = (folder / 'teacher.pth').read_bytes()
    (folder / 'bad.pth').write_bytes(data[: len(data) // 2])


# Of a file that the teacher, a test and an export read.
UNREADABLE = "checkpoint 'bad.pth' cannot be read as weights"
CHECKPOINTS = [
    Row('no file', "checkpoint: no file 'bad.pth' (looked from", make=lambda folder: None),
    Row('a folder', "checkpoint: no file 'bad.pth'", make=lambda folder: (folder / 'bad.pth').mkdir()),
    Row('an empty file', UNREADABLE, make=written(b'')),
    Row('a text', UNREADABLE, make=written(b'weights')),
    Row('a web page', UNREADABLE, make=written(b'<!DOCTYPE html><html></html>')),
    Row('a pointer of git-lfs', UNREADABLE, make=written(b'version https://git-lfs.github.com/spec/v1\n')),
    Row('half a file', UNREADABLE, make=truncated),
    Row('of another architecture', 'does not fit ToyModel', make=saved(dict(state_dict={'layer1.0.weight': torch.ones(2)}))),
    Row('an optimizer alone', 'holds no weights', make=saved(dict(optimizer=dict(lr=1)))),
    Row('a list', 'holds no weights', make=saved([1, 2])),
    Row('a tensor', 'holds no weights', make=saved(torch.ones(3))),
    Row('an empty state dict', 'holds no weights', make=saved(dict(state_dict={}))),
]  # fmt: skip

LOCATIONS = [
    Row('checkpoint of the teacher missing', "teacher: 'checkpoint' is required", f"{TEACHER}['checkpoint'] = None"),
    Row('checkpoint is a number', 'teacher.checkpoint must be a path, a URL', f"{TEACHER}['checkpoint'] = 3"),
    Row('zoo for a dict', 'teacher.checkpoint="zoo" needs a teacher.config that names a library', f"{TEACHER}['checkpoint'] = 'zoo'"),
    Row('server that does not answer', 'cannot be downloaded: ', f"{TEACHER}['checkpoint'] = 'http://127.0.0.1:9/x.pth'"),
    Row('width of the teacher', 'wrongly shaped', f"{TEACHER}['config']['width'] = 16"),
]  # fmt: skip


def no_images(folder):
    shutil.rmtree(folder / 'data' / 'images')


def annotations(text):
    return lambda folder: (folder / 'data' / 'train.json').write_text(text)


def corrupt_images(folder):
    for path in (folder / 'data' / 'images').iterdir():
        path.write_bytes(b'not an image')


DATA_SETS = [
    Row('no such folder', "No such file or directory: 'nope/train.json'", f"{DATA}['data_root'] = 'nope'"),
    Row('no annotations', 'nope.json', f"{DATA}['ann_file'] = 'nope.json'"),
    Row('annotations are empty', 'train_dataloader: ', make=annotations('')),
    Row('annotations of another kind', 'train_dataloader: ', make=annotations('[1]')),
    Row('annotations without images', 'train_dataloader: ', make=annotations('{"metainfo": {}, "data_list": []}')),
    Row('no images', 'data: ', make=no_images),
    Row('images that are none', 'data: ', make=corrupt_images),
    Row('images that are none, for a worker', 'data: ', f"{LOADER}['num_workers'] = 1", make=corrupt_images),
    Row('type of a data set', "train_dataloader: no 'ToyDatasets' in the mmengine::dataset registry; did you mean 'ToyDataset'", f"{DATA}['type'] = 'ToyDatasets'"),
    Row('key of a data set', "train_dataloader: BaseDataset does not take 'annfile'; did you mean 'ann_file'", f"{DATA}['annfile'] = 'x'"),
    Row('type of a transform', "no 'LoadImage' in the mmengine::transform registry", f"{DATA}['pipeline'] = [dict(type='LoadImage')]"),
    Row('no data set', 'train_dataloader: ', f"{LOADER}['dataset'] = None"),
    Row('no training data', 'has no train_dataloader', f'{LOADER} = None'),
    Row('loader is a number', 'train_dataloader must be a dict, got 3', f'{LOADER} = 3'),
    Row('key of a loader', "train_dataloader: DataLoader does not take 'batchsize'; did you mean 'batch_size'", f"{LOADER}['batchsize'] = 2"),
    Row('batch of 0', 'train_dataloader: batch_size should be a positive integer value', f"{LOADER}['batch_size'] = 0"),
    Row('sampler', "train_dataloader: no 'DefaultSample' in the", f"{LOADER}['sampler'] = dict(type='DefaultSample')"),
    Row('workers below 0', 'train_dataloader: num_workers', f"{LOADER}['num_workers'] = -1"),
]  # fmt: skip

RUNS = [
    Row('type of a metric', "val_evaluator: no 'CountMetric' in the mmengine::metric registry", "val_evaluator = dict(type='CountMetric')"),
    Row('validation without metric', 'val_evaluator', 'val_evaluator = None'),
    Row('key of the schedule', "train_cfg: EpochBasedTrainLoop does not take 'max_epoch'; did you mean 'max_epochs'", "train_cfg['max_epoch'] = 3"),
    Row('epochs are a word', 'train_cfg: ', "train_cfg['max_epochs'] = 'x'"),
    Row('validation interval', 'train_cfg.val_interval must be a positive integer, got 0', "train_cfg['val_interval'] = 0"),
    Row('no schedule', 'has no train_cfg', 'train_cfg = None'),
    Row('type of an optimizer', "optim_wrapper: no 'SDG' in the mmengine::optimizer registry; did you mean 'SGD'", "optim_wrapper['optimizer']['type'] = 'SDG'"),
    Row('key of an optimizer', "optim_wrapper: SGD does not take 'learning_rate'", "optim_wrapper['optimizer']['learning_rate'] = 1"),
    Row('learning rate', 'optim_wrapper: Invalid learning rate: -1', "optim_wrapper['optimizer']['lr'] = -1"),
    Row('gradient clipping', 'optim_wrapper: ', "optim_wrapper['clip_grad'] = 3"),
    Row('type of a scheduler', "param_scheduler: no 'StepLRR' in the", "param_scheduler = [dict(type='StepLRR')]"),
    Row('type of a hook', "custom_hooks: no 'mmdiffkd.TelemetryHok' in the", "custom_hooks = [dict(type='mmdiffkd.TelemetryHok')]"),
    Row('key of a hook', "custom_hooks: TelemetryHook does not take 'intervall'; did you mean 'interval'", "custom_hooks = [dict(type='mmdiffkd.TelemetryHook', intervall=3)]"),
    Row('interval of a hook', 'interval must be a positive number of iterations, got 0', "custom_hooks = [dict(type='mmdiffkd.TelemetryHook', interval=0)]"),
    Row('hook of a distillation on a plain student', 'needs a model of type mmdiffkd.DiffKDDistiller', "custom_hooks = [dict(type='mmdiffkd.TelemetryHook')]; model = dict(type='ToyModel')"),
    Row('pair of a schedule', "pairs: the model has no pair 'fnp'; did you mean 'fpn'?", "custom_hooks = [dict(type='mmdiffkd.DistillationScheduleHook', pairs=dict(fnp=dict(begin=1)))]"),
    Row('begin of a schedule', "begin must be a number from 0, got 'x'", "custom_hooks = [dict(type='mmdiffkd.DistillationScheduleHook', begin='x')]"),
    Row('import that fails', 'Failed to import custom modules', "custom_imports = dict(imports=['no_such_module'])"),
    Row('weights to start from', 'nope.pth', "load_from = 'nope.pth'"),
]  # fmt: skip

CONFIGS = [
    Row('syntax', "'(' was never closed", 'a = ('),
    Row('name', "NameError: name 'b' is not defined", 'a = b'),
    Row('config that leaves', "config: 'config.py' cannot be read: ", 'import sys\nsys.exit(3)'),
    Row('base that is not there', 'nope.py', "_base_ = 'nope.py'"),
    Row('base of no library', "'mmrotate::x.py' needs mmrotate, which is not installed", "_base_ = 'mmrotate::x.py'"),
    Row('model alone', 'has no train_dataloader, train_cfg, optim_wrapper', 'del train_dataloader, train_cfg, optim_wrapper'),
]  # fmt: skip

FLAGS = [
    Row('flag', "unrecognized arguments: --smok3; did you mean '--smoke'", argv=['--smok3']),
    Row('launcher', "argument --launcher: invalid choice: 'torch'", argv=['--launcher', 'torch']),
    Row('option without value', "argument --cfg-options: 'train_cfg' is not of the form KEY=VALUE", argv=['--cfg-options', 'train_cfg']),
    Row('option without options', 'argument --cfg-options: expected at least one argument', argv=['--cfg-options']),
    Row('option with a bracket', "'a=[1,2' has a bracket without its other", argv=['--cfg-options', 'a=[1,2']),
    Row('option of no key', "--cfg-options: the config has no key 'trian_cfg'; did you mean 'train_cfg'", argv=['--cfg-options', 'trian_cfg.max_epochs=3']),
    Row('option of no index', '--cfg-options: Index 9 exceeds the length of list', argv=['--cfg-options', 'param_scheduler.9.end=1']),
    Row('option through a number', '--cfg-options: ', argv=['--cfg-options', 'train_cfg.max_epochs.x=1']),
    Row('work directory is a file', "work_dir: 'student.py' cannot be made: File exists", argv=['--work-dir', 'student.py']),
    Row('work directory with the config', 'which the run would overwrite; choose another folder', argv=['--work-dir', '.']),
    Row('no work directory', "work_dir must be the path of a folder, got ''", argv=['--work-dir', '']),
    Row('resume from nothing', 'nope.pth', argv=['--resume', 'nope.pth']),
    Row('teacher check without validation', '--check-teacher needs a validation', argv=['--check-teacher', '--no-validate']),
    Row('teacher check without teacher', 'is no distillation config', "model = dict(type='ToyModel')", ['--check-teacher']),
    Row('learning rate for no batch', '--auto-scale-lr needs auto_scale_lr.base_batch_size', argv=['--auto-scale-lr']),
    Row('smoke run without miniature', "--smoke: no miniature of 'ToyDataset'", argv=['--smoke']),
    Row('launcher without its environment', 'RANK', argv=['--launcher', 'pytorch']),
    Row('mixed precision on a CPU', '--amp needs a GPU', argv=['--amp']),
]  # fmt: skip

# Tool, what follows it, what is said.
OTHER_TOOLS = [
    ('train.py', '', 'the following arguments are required: config'),
    ('train.py', 'nope.py', "config: no file 'nope.py' (looked from"),
    ('train.py', 'data', "config: no file 'data'"),
    ('train.py', 'mmrotate::x.py', "config: 'mmrotate::x.py' needs mmrotate, which is not installed"),
    ('train.py', 'mmdet::x/y.py', "config: 'mmdet::x/y.py' cannot be read: "),
    ('train.py', 'data/train.json', 'has no model, train_dataloader'),
    ('train.py', 'teacher.pth', "config: 'teacher.pth' cannot be read: Only py/yml/yaml/json"),
    ('test.py', 'config.py', 'a checkpoint is required unless --teacher is given'),
    ('test.py', 'config.py nope.pth', "checkpoint: no file 'nope.pth'"),
    ('test.py', 'teacher.pth config.py', "config: 'teacher.pth' cannot be read"),
    ('test.py', 'student.py --teacher', 'is no distillation config'),
    ('test.py', 'config.py teacher.pth --show', '--show needs default_hooks.visualization'),
    ('test.py', 'config.py teacher.pth --out x.json', '--out must end in .pkl or .pickle'),
    ('export_student.py', 'teacher.pth', 'the following arguments are required: out'),
    ('export_student.py', 'nope.pth out.pth', "checkpoint: no file 'nope.pth'"),
    ('export_student.py', 'data out.pth', "checkpoint: no file 'data'"),
    ('export_student.py', 'teacher.pth config.py', 'config.py exists; --force overwrites it'),
    ('export_student.py', 'teacher.pth teacher.pth --force', 'is the checkpoint itself; name another'),
    ('export_student.py', 'teacher.pth data --force', 'data is a folder; name the file to write'),
    ('export_student.py', 'teacher.pth config.py/out.pth', "File exists: 'config.py'"),
    ('export_student.py', 'config.py out.pth', 'cannot be read as weights'),
    ('distill.py', 'student.py', 'the following arguments are required: --teacher'),
    ('distill.py', 'nope.py --teacher student.py --smoke', "student: no file 'nope.py'"),
    ('distill.py', 'student.py --teacher student.py', '--teacher-checkpoint is needed'),
    ('distill.py', 'config.py --teacher student.py --smoke', 'is a distillation config already'),
    ('make_mini_dataset.py', 'lvis new', "invalid choice: 'lvis'"),
    ('make_mini_dataset.py', 'coco data', 'exists and holds other data'),
    ('make_mini_dataset.py', 'coco config.py/x', 'File exists: '),
    ('make_mini_dataset.py', 'coco new --num-train -1', 'num_train must be at least 1'),
    ('make_mini_dataset.py', 'coco new --seed -1', 'seed must be'),
    ('analysis/plot_run.py', 'nope', 'nope: no such folder'),
    ('analysis/plot_run.py', 'data', 'data: no log in it'),
    ('analysis/noise_sweep.py', 'config.py teacher.pth', 'has no distill. weights'),
    ('analysis/noise_sweep.py', 'nope.py teacher.pth', "config: no file 'nope.py'"),
]  # fmt: skip
