//! The `autonomy` program.

fn main() {}
