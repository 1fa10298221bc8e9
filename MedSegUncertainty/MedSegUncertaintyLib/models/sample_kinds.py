"""What the samples of a model are, in words for the user: said wherever their numbers are shown."""

MODEL_SAMPLES = "model samples"
DIFFUSION_SAMPLES = "diffusion samples"
AUGMENTATION = "test-time augmentation"
DROPOUT = "Monte-Carlo dropout"

_SHOWN = {
    AUGMENTATION: "how firmly the network stands by its answer",
    DROPOUT: "what the network knows too little of",
}


def meaning(kind: str) -> str:
    """A sentence on what the spread of samples says that were made without a model of them; empty for other kinds."""
    return f"This spread shows {_SHOWN[kind]}, not what readers disagree about." if kind in _SHOWN else ""


def caution(kind: str) -> str:
    """What the intervals of samples of a kind are, and what they are not, in a sentence or two."""
    return f"Intervals are the spread of {kind}, not calibrated confidence. {meaning(kind)}".rstrip()
