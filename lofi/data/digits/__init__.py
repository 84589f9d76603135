"""Scenes of handwritten digits in colour: three datasets in the columns of POPE, ScienceQA and VQAv2."""
