"""Configs inside checkpoints are read, not run."""

import pytest
from mmengine.config import Config

from mmdiffkd.checkpoints.plain_config import plain_config
from mmdiffkd.errors import CheckpointError


def test_what_mmengine_writes_is_read():
    values = dict(
        model=dict(type='A', scales=[(1333, 800), (-1, 0.5)], names={'a-b': None, 3: True}),
        note='it\'s "quoted"\nin two lines',
        nothing=dict(),
        one=(1,),
        big=-1e-05,
    )
    cfg = Config(values)
    assert plain_config(cfg.pretty_text) == cfg.to_dict() == values


@pytest.mark.parametrize(
    'text',
    [
        'a = open("x")',
        'a = dict(open("x"))',
        'a = dict(**open("x"))',
        'a = {**open("x")}',
        'a = [x for x in open("x")]',
        'a = os.system',
        'a = (1',
    ],
)
def test_all_else_is_refused(text):
    with pytest.raises(CheckpointError, match='does not consist of plain values.*--trust-check'):
        plain_config(text)
