"""The claims of kexue.fm/archives/6051, Lipschitz constraints, and of 6583 on the GANs that they hold."""

from experiments.claims import dirac, matrix_norms, robust_digits, wasserstein_gans

CLAIMS = (*matrix_norms.CLAIMS, *robust_digits.CLAIMS, *wasserstein_gans.CLAIMS, *dirac.CLAIMS)
