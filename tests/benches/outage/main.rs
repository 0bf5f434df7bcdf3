//! What an outage costs: requests that are sent in six hours without the CA, and the time until
//! 1,000 workloads have their certificates from the pool of another region.
//!
//! The first is reckoned by a clock that is stepped and takes seconds; the second waits for real
//! timeouts and takes minutes. `-- six-hours` and `-- region` run one of them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and what fails in it ends it"
)]
mod region;
mod six_hours;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` is not after figures.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let mut names = arguments.iter().filter(|name| !name.starts_with('-'));
    let wanted = names.next().map(String::as_str);
    let runs = |name| wanted.is_none_or(|wanted| wanted == name);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if runs("six-hours") {
        runtime.block_on(six_hours::run());
    }
    if runs("region") {
        runtime.block_on(region::run());
    }
}

/// Whether a goal was met, for people.
fn goal(met: bool, goal: &str) -> String {
    format!("goal: {goal}, {}", if met { "met" } else { "MISSED" })
}
