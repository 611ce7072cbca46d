"""A run of a study -> weights, log, model card and entry in the metafile, all from what the run measured."""
