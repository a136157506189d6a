//! A slow line in front of a registry of the demo: it relays connections, and limits the bytes that come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Kind, Result};

/// Bytes that are relayed at a time.
const PIECE: usize = 16 << 10;

/// The line. It ends when dropped.
#[derive(Debug)]
pub(super) struct SlowLine {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl SlowLine {
    /// A line to `server` on a free loopback port. All its connections together bring `bytes_per_second`.
    pub(super) async fn to(server: SocketAddr, bytes_per_second: u32) -> Result<Self> {
        let failed = |why| Error::new(Kind::Local, "listen on a free port").because(why);
        let listener = TcpListener::bind((server.ip(), 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let turn = Turn { bytes_per_second, free: Arc::new(Mutex::new(Instant::now())) };
        Ok(Self { address, task: tokio::spawn(relay(listener, server, turn)) })
    }
}

impl Drop for SlowLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Relays every connection, until dropped.
async fn relay(listener: TcpListener, server: SocketAddr, turn: Turn) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let turn = turn.clone();
        connections.spawn(async move {
            let Ok(server) = TcpStream::connect(server).await else { return };
            let ((mut from_client, to_client), (from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let up = async {
                let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                let _ = to_server.shutdown().await;
            };
            tokio::join!(up, deliver(from_server, to_client, turn));
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The time when the line is free again.
#[derive(Debug, Clone)]
struct Turn {
    bytes_per_second: u32,
    free: Arc<Mutex<Instant>>,
}

impl Turn {
    /// Waits until `bytes` more have passed.
    async fn pass(&self, bytes: usize) {
        let takes = Duration::from_secs_f64(bytes as f64 / f64::from(self.bytes_per_second));
        let turn = {
            let mut free = self.free.lock().await;
            *free = (*free).max(Instant::now()) + takes;
            *free
        };
        sleep_until(turn).await;
    }
}

async fn deliver(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, turn: Turn) {
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = from.read(&mut piece).await {
        turn.pass(count).await;
        if to.write_all(&piece[..count]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_share_the_rate_and_nothing_is_lost() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = SlowLine::to(server.local_addr().unwrap(), 1 << 20).await.unwrap();
        let sent = vec![7; 1 << 20];
        let (begun, mut received) = (Instant::now(), JoinSet::new());
        for _ in 0..2 {
            let mut client = TcpStream::connect(line.address).await.unwrap();
            let (mut stream, _) = server.accept().await.unwrap();
            let sent = sent.clone();
            received.spawn(async move {
                let answer = async {
                    stream.write_all(&sent).await.unwrap();
                    stream.shutdown().await.unwrap();
                };
                let mut bytes = Vec::new();
                let read = client.read_to_end(&mut bytes);
                let (_, read) = tokio::join!(answer, read);
                read.unwrap();
                bytes
            });
        }
        for bytes in received.join_all().await {
            assert_eq!(bytes, sent);
        }
        assert_eq!(begun.elapsed().as_secs(), 2, "two mebibytes at one a second");
    }
}
