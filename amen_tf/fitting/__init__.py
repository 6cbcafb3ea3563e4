"""The three trainings of Algorithm 1, from windows of requests to fitted models; Trainers and benchmarks share them."""
