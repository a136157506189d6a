//! The `autonomy` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    autonomy_registry::cli::main()
}
