//! One file per task: seed, demo.
