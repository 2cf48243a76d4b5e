# Pairs of segmentors: the features before the classifier, and the classifier's scores.
# For another recipe than that of segmentor-pairs.py: name this file in its place in a config.
pairs = dict(
    features=dict(
        student='decode_head.bottleneck',
        teacher='decode_head.bottleneck',
        head=dict(type='DiffKDHead'),
        loss=dict(type='MSELoss', loss_weight=1.0),
    ),
    logits=dict(
        student='decode_head.conv_seg',
        teacher='decode_head.conv_seg',
        # One channel per class, 19 or 150: a quarter of them would leave little to predict with,
        # and full width is cheap.
        head=dict(type='DiffKDHead', reduction=1, adapter_reduction=1),
        loss=dict(type='KLDivLoss', loss_weight=1.0),
    ),
)
