"""A controlled comparison: equal training for every competitor, the learning rate chosen for each, several seeds."""
