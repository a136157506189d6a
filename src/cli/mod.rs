//! The command line: the only module that knows clap, the terminal, the environment and exit codes.
