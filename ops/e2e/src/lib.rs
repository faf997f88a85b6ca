//! Whole-stack tests: the programs as users run them. Everything is in `tests/`, and the benchmark in `examples/`.
