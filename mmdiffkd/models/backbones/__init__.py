"""The CIFAR networks of the distillation literature, which no host library has.

Parameters are with a linear classifier of 100 classes, maps those for 32x32 images that go into
global average pooling. The networks are those of CRD (Tian et al., "Contrastive Representation
Distillation", ICLR 2020), which later work compares on; their weights start as CRD's do.

============ ====================================================== ============ ==========
Literature   Backbone                                               Last map     Parameters
============ ====================================================== ============ ==========
ResNet-20    ``CIFARResNet(depth=20)``                              64 x 8 x 8      278,324
ResNet-56    ``CIFARResNet(depth=56)``                              64 x 8 x 8      861,620
ResNet-8x4   ``CIFARResNet(depth=8, channels=(32, 64, 128, 256))``  256 x 8 x 8   1,233,540
ResNet-32x4  ``CIFARResNet(depth=32, channels=(32, 64, 128, 256))`` 256 x 8 x 8   7,433,860
WRN-40-1     ``CIFARWideResNet(depth=40, widen_factor=1)``          64 x 8 x 8      569,780
WRN-40-2     ``CIFARWideResNet(depth=40, widen_factor=2)``          128 x 8 x 8   2,255,156
MobileNetV2  ``CIFARMobileNetV2(widen_factor=0.5)``                 1280 x 2 x 2    812,836
ShuffleNetV1 ``CIFARShuffleNetV1()``                                960 x 4 x 4     949,258
ShuffleNetV2 ``CIFARShuffleNetV2()``                                1024 x 4 x 4  1,355,528
============ ====================================================== ============ ==========

The literature's ResNet-50 for CIFAR (23,705,252) is mmpretrain's ``dict(type='ResNet_CIFAR',
depth=50, zero_init_residual=False)``, 2048 x 4 x 4. For each backbone, ``out_indices`` chooses the
stages whose maps are returned, ``init_cfg`` the weight initialisation. A map that is not returned
can still be distilled: the stages are the modules ``stages.0``, ``stages.1``, ...
"""

from mmdiffkd.models.backbones.mobilenet_v2 import CIFARMobileNetV2
from mmdiffkd.models.backbones.resnet import CIFARResNet, CIFARWideResNet
from mmdiffkd.models.backbones.shufflenet import CIFARShuffleNetV1, CIFARShuffleNetV2
from mmdiffkd.models.backbones.staged import StagedBackbone
