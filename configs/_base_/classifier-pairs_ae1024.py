# Pairs of classifiers as the published reference has them: classifier-pairs.py, the feature maps
# diffused in an autoencoder's 1024 channels whatever the teacher's width.
_base_ = './classifier-pairs.py'

pairs = dict(features=dict(head=dict(ae_channels=1024)))
