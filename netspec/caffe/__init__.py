"""Caffe's front door: its nets, solvers and weights, as they are."""
