//! The program itself, built with the feature `testing`: the process that tests start and kill.
fn main() -> std::process::ExitCode {
    certagent::main()
}
