# Hooks of every run. tools/train.py adds them to configs that lack them, unless
# training_policy=None; here they make the tools of other libraries train the same. Configs on a
# base with custom_hooks, beside which mmengine allows no others, leave them to tools/train.py.
#
# A list in a config replaces that of its base: custom_hooks = [*_base_.custom_hooks, dict(...)].
custom_hooks = [
    dict(type='mmdiffkd.NonFiniteLossHook'),
    dict(type='mmdiffkd.InterruptHook'),
]
