//! Records the first bytes of a connection: the reply to a TLS hello shows which protocol the peer speaks.

use std::sync::{Arc, Mutex};

use tokio::io::AsyncRead;
use tokio_util::io::InspectReader;

use crate::sync::lock;

/// Enough bytes to tell TLS from HTTP.
const ENOUGH: usize = 5;

/// The first bytes from a peer.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    /// Returns `connection`, which records its first bytes from now on, and the record.
    pub(super) fn record<T: AsyncRead>(connection: T) -> (InspectReader<T, impl FnMut(&[u8]) + Send>, Self) {
        let heard = Self::default();
        let (first, mut missing) = (heard.clone(), ENOUGH);
        let connection = InspectReader::new(connection, move |bytes: &[u8]| {
            let more = &bytes[..missing.min(bytes.len())];
            if !more.is_empty() {
                missing -= more.len();
                lock(&first.0).extend_from_slice(more);
            }
        });
        (connection, heard)
    }

    /// Returns whether nothing has arrived yet.
    pub(super) fn is_nothing(&self) -> bool {
        lock(&self.0).is_empty()
    }

    /// Returns whether this is the start of a TLS record (RFC 8446, section 5.1): a handshake message or an alert.
    pub(super) fn is_tls(&self) -> bool {
        matches!(lock(&self.0).as_slice(), [0x15 | 0x16, 3, ..])
    }

    /// Returns whether this is the start of an HTTP/1 answer.
    pub(super) fn is_http(&self) -> bool {
        *lock(&self.0) == *b"HTTP/"
    }
}
