"""torch's own compiler, Inductor: graphs to kernels, kernels to recorded launches."""
