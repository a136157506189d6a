//! Ctrl-C, SIGTERM and SIGHUP, which ends a run and makes a server read its files again.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::wire::Client;

/// Longest time for cancelling open uploads at the end.
const TIDY: Duration = Duration::from_secs(3);

/// Does `work`, which leaves nothing behind when it is dropped. Fails with `stopped` if an interrupt comes first.
pub(crate) async fn unless_interrupted<T, E: From<Error>>(
    work: impl Future<Output = Result<T, E>> + Send,
    stopped: Error,
) -> Result<T, E> {
    tokio::select! {
        done = work => done,
        () = interrupted() => Err(stopped.into()),
    }
}

/// Cancels the uploads of `client` that are still open.
pub(crate) async fn tidy(client: &Client) {
    client.settle(TIDY).await;
}

/// Resolves when the user presses Ctrl-C, or SIGTERM or SIGHUP arrives: the terminal was closed, or the connection to it
/// was lost.
pub(crate) async fn interrupted() {
    tokio::select! {
        () = terminated() => {}
        () = hung_up() => {}
    }
}

/// Resolves when the user presses Ctrl-C or SIGTERM arrives.
pub(crate) async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

/// SIGHUP. From the start of this on, it does not end the program.
#[derive(Debug)]
pub(crate) struct Hangups {
    #[cfg(unix)]
    signals: tokio::signal::unix::Signal,
}

impl Hangups {
    /// Catches the signal.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if the system refuses.
    pub(crate) fn start() -> Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let failed = |why| Error::new(Kind::Local, "catch the signal SIGHUP").because(why);
            signal(SignalKind::hangup()).map(|signals| Self { signals }).map_err(failed)
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        if self.signals.recv().await.is_some() {
            return;
        }
        std::future::pending().await
    }
}

/// Resolves when SIGHUP arrives. Never, if the program was started to ignore it (`nohup`): a handler would end that.
async fn hung_up() {
    if !ignores_hangup()
        && let Ok(mut hangups) = Hangups::start()
    {
        return hangups.next().await;
    }
    std::future::pending().await
}

/// Returns whether SIGHUP is ignored, or may be: only Linux says so without unsafe code. Asked once, before a handler is
/// there.
fn ignores_hangup() -> bool {
    static IGNORES: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        // Bit 0 is signal 1, SIGHUP.
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
    });
    *IGNORES
}
