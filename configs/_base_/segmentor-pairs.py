# Pairs of segmentors: the scores of the decode head's classifier and of the auxiliary head's.
# A config takes them as `model.pairs`; that is where to change them on a command line.
# segmentor-pairs_features.py has the features before the classifier instead.
pairs = dict(
    logits=dict(
        student='decode_head.conv_seg',
        teacher='decode_head.conv_seg',
        # One channel per class, 19 or 150: a quarter of them would leave little to predict with,
        # and full width is cheap.
        head=dict(type='DiffKDHead', reduction=1, adapter_reduction=1),
        loss=dict(type='DISTLoss', beta=1.0, gamma=1.0, loss_weight=1.0),
    ),
    auxiliary_logits=dict(
        student='auxiliary_head.conv_seg',
        teacher='auxiliary_head.conv_seg',
        head=dict(type='DiffKDHead', reduction=1, adapter_reduction=1),
        loss=dict(type='DISTLoss', beta=1.0, gamma=1.0, loss_weight=0.4),
    ),
)
