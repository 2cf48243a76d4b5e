# Changes of DiffKD's heads, each by itself. The tasks' methods.py put them into their pairs.
ablations = dict(
    # The noise predictor learns from the diffusion loss alone and not from the distance.
    diffkd_own_loss=dict(detach_denoiser=True),
    # A fixed share of the student feature, instead of the one that the noise adapter learns.
    diffkd_no_noise=dict(gamma=1.0),
    diffkd_gamma_07=dict(gamma=0.7),
    diffkd_own_loss_no_noise=dict(detach_denoiser=True, gamma=1.0),
    diffkd_own_loss_gamma_07=dict(detach_denoiser=True, gamma=0.7),
    # Mixed by square roots, as diffusion models mix.
    diffkd_roots=dict(sqrt_mixing=True),
    diffkd_one_step=dict(num_steps=1),
)
