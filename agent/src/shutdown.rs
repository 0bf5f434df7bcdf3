//! The end: SIGTERM and SIGINT.
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// What a shell reports for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// What a shell reports for a process that SIGTERM ended.
const TERMINATED: i32 = 143;

/// A token that the first SIGTERM or SIGINT cancels. The second one ends the process at once.
pub(crate) fn on_signals() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
    };
    tokio::spawn({
        let token = token.clone();
        async move {
            let first = signals.next().await;
            info!(
                signal = if first == INTERRUPTED {
                    "SIGINT"
                } else {
                    "SIGTERM"
                },
                "ending"
            );
            token.cancel();
            exit_now(signals.next().await);
        }
    });
    Ok(token)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// The exit code of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => TERMINATED,
            _ = self.interrupt.recv() => INTERRUPTED,
        }
    }
}

#[expect(
    clippy::exit,
    reason = "somebody asked twice, and will not wait for an orderly end"
)]
fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}
