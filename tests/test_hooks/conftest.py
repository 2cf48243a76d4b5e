"""A training of the toy models in the real runner."""

import uuid

import pytest
import torch
from mmengine.runner import Runner

ITERATIONS = 4


@pytest.fixture
def train(toy_config, tmp_path):
    """Train the toy student; returns the runner."""

    def train_toy(*hooks, model=toy_config, **changes):
        torch.manual_seed(0)
        images = [dict(inputs=torch.randn(3, 16, 24)) for _ in range(6)]
        name = uuid.uuid4().hex
        settings = dict(
            model=model,
            work_dir=str(tmp_path / name),
            experiment_name=name,
            train_dataloader=dict(
                dataset=images, batch_size=3, sampler=dict(type='DefaultSampler', shuffle=True)
            ),
            train_cfg=dict(by_epoch=False, max_iters=ITERATIONS),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            log_processor=dict(by_epoch=False),
            custom_hooks=list(hooks),
            randomness=dict(seed=1),
        )
        runner = Runner(**{**settings, **changes})
        runner.train()
        return runner

    return train_toy
