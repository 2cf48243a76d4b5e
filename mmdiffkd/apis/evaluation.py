"""The evaluation of a distilled student, or of its teacher."""

from typing import Any, Dict, Optional

from mmengine.config import Config
from mmengine.evaluator import DumpResults
from mmengine.runner import Runner

from mmdiffkd.apis.launch import build_runner
from mmdiffkd.apis.processes import process_group
from mmdiffkd.checkpoints.download import fetch
from mmdiffkd.checkpoints.reading import load_file
from mmdiffkd.checkpoints.weights import load_strictly, weights_of
from mmdiffkd.engine.hooks.model import model_of
from mmdiffkd.errors import ConfigError
from mmdiffkd.messages import lengthen, terminal
from mmdiffkd.models.configs import student_config, type_name


def evaluate(
    cfg: Config,
    checkpoint: Optional[str] = None,
    teacher: bool = False,
    out: Optional[str] = None,
    drawing: Optional[Dict[str, Any]] = None,
) -> Dict[str, float]:
    """Evaluate the student of a distillation config, or its teacher, on the config's test set.

    Args:
        cfg: A complete config with ``work_dir`` and ``launcher``; not to be used again.
        checkpoint: Checkpoint of the distiller or of the student; with ``teacher`` that of the
            teacher, the config's by default.
        teacher: Whether to evaluate the teacher.
        out: File for the predictions (.pkl).
        drawing: Arguments of mmengine's visualization hook, to draw the predictions.

    Returns:
        The metrics by their names.
    """
    # Where a training would start from; the runner would load it over what is to be tested.
    cfg.load_from, cfg.resume = None, False
    # The checkpoint's weights are the averaged ones already.
    cfg.custom_hooks = [
        hook for hook in cfg.get('custom_hooks') or () if not type_name(hook).endswith('EMAHook')
    ]
    if drawing is not None:
        if (cfg.get('default_hooks') or {}).get('visualization') is None:
            raise ConfigError('--show needs default_hooks.visualization in the config')
        cfg.default_hooks.visualization.update(drawing, draw=True)
    build = _teacher_runner if teacher else _student_runner
    with process_group(cfg), terminal(cfg.get('terminal_level')):
        runner = build(cfg, checkpoint)
        # Metrics log tables, such as those of all classes.
        lengthen(runner.logger)
        if out is not None:
            runner.test_evaluator.metrics.append(DumpResults(out))
        return runner.test()


def _student_runner(cfg: Config, checkpoint: str) -> Runner:
    """A runner of the plain student, with the student's weights of ``checkpoint``."""
    cfg.model = student_config(cfg.model)
    runner = build_runner(cfg)
    trust = cfg.get('trust_checkpoint', False)
    weights = weights_of(load_file(fetch(checkpoint), trust, 'give --trust-checkpoint'))
    load_strictly(model_of(runner), weights, f'checkpoint {checkpoint!r}')
    return runner


def _teacher_runner(cfg: Config, checkpoint: Optional[str]) -> Runner:
    """A runner that tests the teacher, with ``checkpoint`` or what the config names.

    The teacher runs as in training: on the student's pictures, converted to its own.
    """
    if 'config' not in (cfg.model.get('teacher') or {}):
        raise ConfigError(f'--teacher: {cfg.filename} has no single teacher with a config')
    cfg.model.teacher.checkpoint = checkpoint or cfg.model.teacher.get('checkpoint')
    if cfg.get('trust_checkpoint', False):
        cfg.model.teacher.trust_checkpoint = True
    runner = build_runner(cfg)
    distiller = model_of(runner)
    distiller.test_step = distiller.predict_with_teacher
    return runner
