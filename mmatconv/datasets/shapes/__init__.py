"""The generated data set of textured shapes, on which quickstart trains and the tests run."""
