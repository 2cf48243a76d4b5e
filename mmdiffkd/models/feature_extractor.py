"""Backbones of timm and of Hugging Face's transformers as teachers."""

import inspect
from typing import Any, List, Sequence, Tuple

import torch
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn

from mmdiffkd.compat import is_installed
from mmdiffkd.errors import CheckpointError, ConfigError, describe
from mmdiffkd.models.hosts import check_keys
from mmdiffkd.registry import MODELS

_LIBRARIES = ('timm', 'transformers')


@MODELS.register_module()
class FeatureExtractor(nn.Module):
    """A backbone of timm or of Hugging Face's transformers whose features are maps (N, C, H, W).

    A pair names them as its teacher path: ``'features'`` has one map for each of ``out_indices``.
    The tokens of a transformer are put at the places of their patches, without class and register
    tokens. ``data_preprocessor`` is the normalisation that the backbone was trained with,
    ``image_size`` the height and width of its training images in pixels. Teachers get images of
    this size; with another ``teacher.image_size``, which patches should divide, position embeddings
    are interpolated.

    Args:
        name: ``'timm::'`` and the name of a model of timm, or ``'transformers::'`` and a model's
            name on the Hugging Face hub, or the path of a folder that it was saved in. Of models
            with images and texts, such as SigLIP, the image encoder is used.
        out_indices: Blocks or stages whose outputs are used, negative ones from the end. The
            backbone's last norm is applied to the last one, and by timm to those of other blocks.
        settings: Further arguments of ``timm.create_model``, or attributes of the model's config in
            transformers.
    """

    def __init__(self, name: str, out_indices: Sequence[int] = (-1,), **settings: Any) -> None:
        super().__init__()
        self.library, _, self.name = str(name).partition('::')
        if self.library not in _LIBRARIES or not self.name:
            raise ConfigError(
                f"teacher.config.name must be 'timm::...' or 'transformers::...', got {name!r}"
            )
        if not is_installed(self.library):
            raise ConfigError(
                f'teacher.config.name: {name!r} needs {self.library}, which is not installed'
            )
        self.out_indices, self.settings = [*out_indices], settings
        build = self._build_timm if self.library == 'timm' else self._build_transformers
        size, mean, std = build()
        self.image_size = (size, size) if isinstance(size, int) else (*size,)
        self.features = nn.Identity()
        mean, std = ([255 * value for value in values] for values in (mean, std))
        self.data_preprocessor = ImgDataPreprocessor(mean, std, bgr_to_rgb=True)

    def _build_timm(self) -> Tuple[Any, Sequence[float], Sequence[float]]:
        import timm

        self.backbone = timm.create_model(self.name, **self.settings)
        data = timm.data.resolve_model_data_config(self.backbone)
        return data['input_size'][1:], data['mean'], data['std']

    def _build_transformers(self) -> Tuple[Any, Sequence[float], Sequence[float]]:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        config = AutoConfig.from_pretrained(self.name)
        config = getattr(config, 'vision_config', config)
        check_keys(self.settings, config.to_dict(), (), 'teacher.config')
        config.update(self.settings)
        self.backbone = AutoModel.from_config(config)
        processor = AutoImageProcessor.from_pretrained(self.name)
        size = getattr(config, 'image_size', 224)
        return size, processor.image_mean, processor.image_std

    def load_published(self) -> None:
        """Load the weights that the library publishes for the backbone."""
        try:
            if self.library == 'timm':
                import timm

                self.backbone = timm.create_model(self.name, pretrained=True, **self.settings)
                return
            self.backbone, info = type(self.backbone).from_pretrained(
                self.name,
                config=self.backbone.config,
                dtype=torch.float32,
                output_loading_info=True,
            )
            if missing := sorted(info['missing_keys']):
                raise ValueError(f'{len(missing)} weights are missing, such as {missing[0]}')
        except Exception as error:
            # The two libraries and the client of the hub raise anything.
            raise CheckpointError(
                f"teacher.checkpoint='zoo': {self.name} cannot be loaded: {describe(error)}. "
                f'Weights that were downloaded elsewhere are given by the path of their file'
            ) from error

    def forward(self, inputs: Tensor) -> List[Tensor]:
        """Normalised images (N, C, H, W) to the maps of the backbone."""
        size = tuple(inputs.shape[-2:])
        if size != self.image_size:
            self.image_size = size
            # Those of timm whose size is fixed interpolate their position embeddings at this call.
            if hasattr(self.backbone, 'set_input_size'):
                self.backbone.set_input_size(img_size=size)
        return self.features(getattr(self, f'_maps_of_{self.library}')(inputs))

    def _maps_of_timm(self, images: Tensor) -> List[Tensor]:
        return self.backbone.forward_intermediates(
            images, self.out_indices, norm=True, stop_early=True, intermediates_only=True
        )

    def _maps_of_transformers(self, images: Tensor) -> List[Tensor]:
        several = self.out_indices != [-1]
        options = dict(output_hidden_states=True) if several else {}
        if 'interpolate_pos_encoding' in inspect.signature(self.backbone.forward).parameters:
            options['interpolate_pos_encoding'] = True
        output = self.backbone(images, **options)
        blocks = [*(output.hidden_states[1:-1] if several else ()), output.last_hidden_state]
        return [self._as_map(blocks[index]) for index in self.out_indices]

    def _as_map(self, feature: Tensor) -> Tensor:
        if feature.dim() == 4:
            return feature
        patch = self.backbone.config.patch_size
        grid = tuple(side // patch for side in self.image_size)
        patches = feature[:, -grid[0] * grid[1] :]
        return patches.transpose(1, 2).unflatten(2, grid)
