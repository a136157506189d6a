//! Request and response bodies: counted, cut, damaged, slowed down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};

use super::log::OpenEntry;

pub(super) type Piece = io::Result<Bytes>;

/// Interval between pieces of a slow body: short enough that no client takes it for silent.
const BEAT: Duration = Duration::from_millis(50);

/// Time for bytes that the connection has taken to leave this machine before the connection is dropped.
const PARTING: Duration = Duration::from_millis(30);

pub(super) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// Returns a lost connection as the server's own code sees it.
pub(super) fn dropped() -> Piece {
    Err(io::Error::new(io::ErrorKind::ConnectionAborted, "dropped by the test"))
}

/// Drops the connection after the earlier bytes have left.
pub(super) async fn cut() -> Piece {
    tokio::time::sleep(PARTING).await;
    dropped()
}

/// Ends the body after the earlier bytes have left: the client must see both of a head and a body that contradict each
/// other.
pub(super) fn ending() -> impl Stream<Item = Piece> + Send {
    stream::once(tokio::time::sleep(PARTING)).filter_map(|()| std::future::ready(None))
}

pub(super) fn counted(body: Body, mut count: impl FnMut(usize) + Send + 'static) -> impl Stream<Item = Piece> + Send {
    body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        count(piece.len());
        Ok(piece)
    })
}

/// Returns the request's body up to `after` bytes, and then a lost connection.
pub(super) fn incoming(body: Body, entry: Arc<OpenEntry>, after: u64) -> impl Stream<Item = Piece> + Send {
    let within = taken(body, after);
    let mut left = after;
    let mut is_lost = false;
    within
        .map(Some)
        .chain(stream::once(async { None }))
        .filter_map(move |piece| {
            let piece = match piece {
                Some(piece) => {
                    let length = piece.as_ref().map_or(0, Bytes::len);
                    left -= length as u64;
                    add(&entry.bytes_in, length);
                    Some(piece)
                }
                None if left == 0 && !is_lost => {
                    is_lost = true;
                    Some(dropped())
                }
                None => None,
            };
            std::future::ready(piece)
        })
        .boxed()
}

/// Returns the first `limit` bytes.
pub(super) fn taken(body: Body, limit: u64) -> impl Stream<Item = Piece> + Send {
    let state = (body.into_data_stream(), limit);
    stream::try_unfold(state, |(mut pieces, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(piece) = pieces.next().await else { return Ok(None) };
        let mut piece = piece.map_err(io::Error::other)?;
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (pieces, left))))
    })
}

/// Returns the same bytes, with one bit of the byte at `at` flipped.
pub(super) fn flipped(body: Body, at: u64) -> impl Stream<Item = Piece> + Send {
    let mut seen = 0;
    body.into_data_stream().map(move |piece| {
        let piece = piece.map_err(io::Error::other)?;
        let index = usize::try_from(at.wrapping_sub(seen)).ok().filter(|index| *index < piece.len());
        seen += piece.len() as u64;
        let Some(index) = index else { return Ok(piece) };
        let mut piece = BytesMut::from(&piece[..]);
        piece[index] ^= 1;
        Ok(piece.freeze())
    })
}

/// Returns the same bytes: the first `after` at once, the others no faster than `bytes_per_second`.
pub(super) fn trickled(body: Body, after: u64, bytes_per_second: u64) -> impl Stream<Item = Piece> + Send {
    let bytes_per_second = bytes_per_second.max(1);
    let beat = u64::try_from(BEAT.as_millis()).unwrap_or(u64::MAX);
    let drop = (bytes_per_second * beat / 1000).max(1);
    let pause = Duration::from_secs_f64(drop as f64 / bytes_per_second as f64);
    let state = (body.into_data_stream(), Bytes::new(), after);
    stream::try_unfold(state, move |(mut pieces, mut held, at_once)| async move {
        while held.is_empty() {
            let Some(piece) = pieces.next().await else { return Ok(None) };
            held = piece.map_err(io::Error::other)?;
        }
        let most = if at_once > 0 { at_once } else { drop };
        if at_once == 0 {
            tokio::time::sleep(pause).await;
        }
        let given = held.split_to(usize::try_from(most).map_or(held.len(), |most| most.min(held.len())));
        let at_once = at_once.saturating_sub(given.len() as u64);
        Ok(Some((given, (pieces, held, at_once))))
    })
}
