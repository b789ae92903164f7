"""The reference model: learnt from labelled cells once, then names the cells of any sample at any depth."""
