"""Pan-Human Azimuth without Keras: graph, normalisation, calibration, decoding and refinement, free of file formats.

Written from a description of panhumanpy 1.0.0's behaviour, whose labels it repeats, oddities included
(docs/models/azimuth.md).
"""
