"""Files of images, loaded as the pipeline of a data set loads them, and made a batch."""

import os
from typing import Any, Dict, Sequence

from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmdiffkd.datasets.config_checks import first_missing
from mmdiffkd.errors import ConfigError, describe
from mmdiffkd.models.configs import student_config
from mmdiffkd.models.dry_run import random_state_kept

# Images whose files are looked for.
_LOOKED_FOR = 10_000


def spread(number: int, most: int) -> Sequence[int]:
    """At most so many indices of ``number`` items, at equal distances."""
    return range(0, number, -(-number // most))


def load_files(info: Dict, steps: Dict[str, Any], where: str) -> Dict:
    """What the pipeline loads of an image: its file, and its label map."""
    loaded = dict(info)
    for key, step in _loading(steps).items():
        if info.get(key):
            try:
                loaded = step(loaded) or loaded
            except Exception as error:
                setting = 'seg_map_suffix' if key == 'seg_map_path' else 'the names in ann_file'
                raise ConfigError(
                    f'{where}: {info[key]!r} cannot be loaded: {describe(error)}; look at the '
                    f'file, data_prefix and {setting}'
                ) from error
    return loaded


def _loading(steps: Dict[str, Any]) -> Dict[str, Any]:
    """The steps that load a file of an image, by the key of its path."""
    kinds = dict(img_path='LoadImageFromFile', seg_map_path='LoadAnnotations')
    found = {key: steps[kind] for key, kind in kinds.items() if kind in steps}
    # MMDetection's step loads boxes without a setting for maps.
    return {key: step for key, step in found.items() if getattr(step, 'with_seg', True)}


def check_files(dataset: Any, steps: Dict[str, Any], where: str) -> None:
    """Raise if files that the pipeline will load are missing or empty."""
    infos = [dataset.get_data_info(index) for index in spread(len(dataset), _LOOKED_FOR)]
    for key, step in _loading(steps).items():
        files = [info[key] for info in infos if info.get(key)]
        bad = [file for file in files if first_missing({key: file}, vars(step)) or _is_empty(file)]
        if bad and not getattr(step, 'ignore_empty', False):
            which = f'{len(bad)} of {len(files)} files are missing or empty'
            raise ConfigError(f'{where}: {which}, the first is {bad[0]!r}')


def _is_empty(file: str) -> bool:
    return os.path.isfile(file) and not os.path.getsize(file)


def check_batch(cfg: Config, key: str, dataset: Any) -> None:
    """Raise if a few images of the data set of a loader make no batch for the model."""
    indices = spread(len(dataset), min(4, cfg[key].get('batch_size') or 1))
    images = student_config(cfg.model).get('data_preprocessor') or cfg.get('data_preprocessor')
    loader = dict(batch_size=len(indices), sampler=dict(type='DefaultSampler', shuffle=False))
    if isinstance(collate := cfg[key].get('collate_fn'), dict):
        # mmengine hands all the rest to the function.
        loader['collate_fn'] = {name: collate[name] for name in collate if name != '_scope_'}
    scope = MODELS.switch_scope_and_registry(cfg.get('default_scope'))
    try:
        with random_state_kept(), scope as registry:
            samples = [dataset[index] for index in indices]
            loader.update(dataset=samples, num_workers=0)
            (batch,) = Runner.build_dataloader(loader, seed=0)
            if images:
                # Augmentations of batches may need the number of the training's step.
                images = {'type': 'ClsDataPreprocessor', **images}
                images.pop('batch_augments', None)
                registry.build(images)(batch, key == 'train_dataloader')
    except Exception as error:
        what = f'{key}: no batch can be made from {len(indices)} images of its data set'
        raise ConfigError(f'{what}: {describe(error)}') from error
