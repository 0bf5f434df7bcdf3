//! The program `certagent`. What it does begins in `run/mod.rs`, where one match names every
//! command.
use std::process::ExitCode;

fn main() -> ExitCode {
    certagent::main()
}
