# What is changed in DiffKD's heads, each by itself; the tasks' methods.py put these into their pairs.
ablations = dict(
    # The noise predictor learns from the diffusion loss alone, not from the distance.
    diffkd_own_loss=dict(detach_denoiser=True),
    # No noise is mixed in, and less than a learned share of the student feature is kept.
    diffkd_no_noise=dict(gamma=1.0),
    diffkd_gamma_07=dict(gamma=0.7),
    diffkd_own_loss_no_noise=dict(detach_denoiser=True, gamma=1.0),
    # Mixed by square roots, as diffusion models mix.
    diffkd_roots=dict(sqrt_mixing=True),
    diffkd_one_step=dict(num_steps=1),
)
