//! A body with a spool: which bytes are fetched, which are kept, and how files with wrong content are treated.

mod distrust;
mod download;
mod folder;
mod upload;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, MediaType, Name, Tag};
use crate::spool::Spool;
use crate::store::{Body, ByteStream, Put, Root, Store};

const MIB: usize = 1 << 20;

/// Holds one blob, sends it in pieces, and records the offsets of the requests.
#[derive(Debug)]
struct Source {
    bytes: Bytes,
    asked: Mutex<Vec<u64>>,
    /// Refuses every start but the first byte.
    is_without_ranges: bool,
    /// Stalls every stream after this many bytes.
    patience: usize,
    /// Pause before each piece.
    pause: Duration,
    /// Bytes that readers have taken.
    given: Arc<AtomicUsize>,
}

impl Source {
    fn new(bytes: &Bytes) -> Self {
        Self {
            bytes: bytes.clone(),
            asked: Mutex::default(),
            is_without_ranges: false,
            patience: usize::MAX,
            pause: Duration::ZERO,
            given: Arc::default(),
        }
    }

    fn asked(&self) -> Vec<u64> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

#[async_trait]
impl Store for Source {
    fn label(&self) -> &str {
        "source"
    }

    async fn resolve(&self, _: &Name) -> Result<Descriptor> {
        unreachable!("bodies resolve nothing")
    }

    async fn fetch(&self, _: &Name) -> Result<Root> {
        unreachable!("bodies fetch nothing")
    }

    async fn contains(&self, _: &Descriptor) -> Result<bool> {
        unreachable!("bodies ask for nothing")
    }

    async fn open(&self, _: &Descriptor, from: u64) -> Result<ByteStream> {
        self.asked.lock().unwrap().push(from);
        if self.is_without_ranges && from > 0 {
            return Err(Error::new(Kind::Invalid, "get blob").because("no ranges here"));
        }
        let rest = self.bytes.slice(usize::try_from(from).unwrap()..);
        let given = rest.slice(..rest.len().min(self.patience));
        let pieces: Vec<_> = given.chunks(100_000).map(|piece| Ok(given.slice_ref(piece))).collect();
        let count = Arc::clone(&self.given);
        let pause = self.pause;
        let paced = stream::iter(pieces).then(move |piece| async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            piece
        });
        let stream = paced.inspect(move |piece: &Result<Bytes>| {
            count.fetch_add(piece.as_ref().unwrap().len(), Ordering::Relaxed);
        });
        if given.len() < rest.len() { Ok(Box::pin(stream.chain(stream::pending()))) } else { Ok(Box::pin(stream)) }
    }

    async fn put(&self, _: &Descriptor, _: &Body, _: &[Tag]) -> Result<Put> {
        unreachable!("nothing is put into a source")
    }

    fn expect(&self, _: usize) {}
}

/// A folder for a spool, and a blob that a source holds.
struct Bed {
    home: tempfile::TempDir,
    bytes: Bytes,
    node: Descriptor,
    source: Arc<Source>,
}

impl Bed {
    fn new(size: usize) -> Self {
        // All bytes differ, so that none can replace another unnoticed.
        let bytes: Vec<u8> = (1..=size.div_ceil(8) as u64)
            .flat_map(|n| {
                n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()
            })
            .take(size)
            .collect();
        let bytes = Bytes::from(bytes);
        let node = Descriptor::of(MediaType::OCI_LAYER, &bytes);
        let source = Arc::new(Source::new(&bytes));
        Self { home: tempfile::tempdir().unwrap(), bytes, node, source }
    }

    fn place(&self) -> PathBuf {
        self.home.path().join("spool")
    }

    fn file(&self) -> PathBuf {
        self.place().join(format!("sha256-{}.partial", self.node.digest.hex()))
    }

    async fn spool(&self, max: u64) -> Spool {
        Spool::open(&self.place(), max).await.unwrap()
    }

    async fn body(&self) -> Body {
        self.body_from(&self.source).await
    }

    async fn body_from(&self, source: &Arc<Source>) -> Body {
        Body::stored(self.node.clone(), Arc::clone(source) as _).spooled(&self.spool(1 << 40).await)
    }

    /// Returns a source of the same blob that sends no more than `patience` bytes at a time.
    fn slow(&self, patience: usize) -> Arc<Source> {
        Arc::new(Source { patience, ..Source::new(&self.bytes) })
    }

    /// Puts bytes into the file for the blob's beginning.
    fn leave(&self, bytes: &[u8]) {
        fs::create_dir_all(self.place()).unwrap();
        fs::write(self.file(), bytes).unwrap();
    }

    /// Returns how much is kept once the file is released: the task that fills it ends a moment after its last reader.
    async fn released(&self) -> usize {
        let file = fs::File::open(self.file()).unwrap();
        while file.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.kept()
    }

    /// Returns how much is kept once no more is written.
    fn settled(&self) -> usize {
        let mut last = usize::MAX;
        while last != self.kept() {
            last = self.kept();
            std::thread::sleep(Duration::from_millis(100));
        }
        last
    }

    fn kept(&self) -> usize {
        fs::metadata(self.file()).map_or(0, |about| usize::try_from(about.len()).unwrap())
    }
}

/// Reads `count` bytes of a body, or all, and drops the stream.
async fn read(body: &Body, count: usize) -> Result<Vec<u8>> {
    taken(body.open(), count).await
}

async fn taken(mut stream: ByteStream, count: usize) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count
        && let Some(piece) = stream.next().await
    {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}
