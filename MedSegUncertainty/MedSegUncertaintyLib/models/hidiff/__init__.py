"""HiDiff: a binarized diffusion network that refines what a segmentor says, in steps of Bernoulli noise."""
