"""The claims of kexue.fm/archives/6234, adaptive learning rates, and of 6261 where that speaks of them."""

from experiments.claims import first_and_last, squared_gradients, step_control, vector_rates

CLAIMS = (*step_control.CLAIMS, *vector_rates.CLAIMS, *squared_gradients.CLAIMS, *first_and_last.CLAIMS)
