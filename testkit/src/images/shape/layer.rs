//! Layers that are generated while they are read.

use std::io::{self, Read, Write};

use autonomy_registry::error::Result;
use autonomy_registry::oci::{Algorithm, Digest, Hasher};
use autonomy_registry::store::ByteStream;
use bytes::{Bytes, BytesMut};
use flate2::{Compression, GzBuilder};
use futures_util::stream;
use tokio::sync::mpsc;

/// Largest piece that an opened layer comes in.
pub const PIECE: usize = 128 << 10;

/// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014), as numbers and as a stream.
#[derive(Debug, Clone)]
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
        Ok(buffer.len())
    }
}

/// Recipe of a layer: a `.tar.gz` of one file of `size` random bytes.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    pub seed: u64,
    pub size: u64,
}

impl Recipe {
    /// Writes the layer to `out`, and its archive, before compression, to `archive` too.
    fn write(&self, out: impl Write, archive: impl Write) -> io::Result<()> {
        // Stored, not compressed: this is fast, and the same with every version of the compressor.
        let gzip = GzBuilder::new().mtime(0).operating_system(255).write(out, Compression::none());
        let mut tar = tar::Builder::new(Both(gzip, archive));
        let mut header = tar::Header::new_gnu();
        header.set_path(format!("data/{:016x}", self.seed))?;
        header.set_size(self.size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        tar.append(&header, Noise(self.seed).take(self.size))?;
        tar.into_inner()?.0.finish()?.flush()
    }

    /// Digest and length of the layer, and the digest of its archive.
    pub fn describe(&self) -> (Digest, u64, Digest) {
        let (mut layer, mut archive) = (Hashed::default(), Hashed::default());
        self.write(&mut layer, &mut archive).unwrap();
        (layer.hasher.finish(), layer.length, archive.hasher.finish())
    }

    /// The bytes of the layer from `from` on.
    pub fn open(self, from: u64) -> ByteStream {
        let (sender, receiver) = mpsc::channel(2);
        // Ends by itself when the reader is gone: sending fails then.
        tokio::task::spawn_blocking(move || self.send(from, sender));
        Box::pin(stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) }))
    }

    fn send(&self, from: u64, sender: mpsc::Sender<Result<Bytes>>) -> io::Result<()> {
        self.write(Pieces { skip: from, buffer: BytesMut::new(), sender }, io::sink())
    }
}

struct Both<A, B>(A, B);

impl<A: Write, B: Write> Write for Both<A, B> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(bytes)?;
        self.1.write_all(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.1.flush()
    }
}

struct Hashed {
    hasher: Hasher,
    length: u64,
}

impl Default for Hashed {
    fn default() -> Self {
        Self { hasher: Hasher::new(Algorithm::Sha256), length: 0 }
    }
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends the written bytes, from an offset on, in pieces of [`PIECE`] bytes.
struct Pieces {
    skip: u64,
    buffer: BytesMut,
    sender: mpsc::Sender<Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        self.buffer.extend_from_slice(&bytes[skipped as usize..]);
        while self.buffer.len() >= PIECE {
            let piece = self.buffer.split_to(PIECE).freeze();
            self.sender.blocking_send(Ok(piece)).map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        let rest = self.buffer.split().freeze();
        if rest.is_empty() { Ok(()) } else { self.sender.blocking_send(Ok(rest)).map_err(io::Error::other) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_nobody_reads_on_is_not_made_on() {
        let (sender, receiver) = mpsc::channel(2);
        drop(receiver);
        // Too large to generate within a test's time.
        let recipe = Recipe { seed: 1, size: 1 << 50 };
        assert!(recipe.send(0, sender).is_err());
    }
}
