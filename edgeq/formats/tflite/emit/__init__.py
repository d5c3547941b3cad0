"""TFLite operators for the ops of the graph, in one file per op family."""
