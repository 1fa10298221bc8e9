"""SelfReg-UNet: an encoder and decoder that regularize themselves, sampled by augmentation or by dropout."""
