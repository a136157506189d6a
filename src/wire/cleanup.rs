//! Cleans up at peers in the background: cancels uploads and the like.

use std::future::Future;
use std::sync::Mutex;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::sync::lock;

/// Background work; only the end of the program waits for it.
#[derive(Debug, Default)]
pub(super) struct Cleanup(Mutex<JoinSet<()>>);

impl Cleanup {
    /// Runs `work` in the background.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Without a runtime nothing can run it: the peer's own expiry has to clean up.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut tasks = lock(&self.0);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(work, &runtime);
    }

    /// Waits until all work is done, for at most `limit`.
    pub(super) async fn settle(&self, limit: Duration) {
        let all = async {
            loop {
                let mut tasks = std::mem::take(&mut *lock(&self.0));
                if tasks.is_empty() {
                    return;
                }
                // A task may add another: an upload session that opened too late has to be cancelled.
                while tasks.join_next().await.is_some() {}
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }
}
