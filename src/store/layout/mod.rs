//! An OCI image layout: one folder with `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`.
//!
//! The folder is standard (image-spec, "Image Layout"): skopeo and others read it as `oci:<folder>`, and folders that
//! they made are read here. `index.json` lists every manifest that was put, tagged or not, so that the media type given
//! with it is returned later. A foreign layout may list its roots alone; the rest is found by following them. Manifests
//! may refer to missing content.
//!
//! Files appear by temporary file, sync and rename: after a power cut they exist whole or not at all. Writers of one
//! process wait for each other on a mutex, writers of several processes on a lock on `.lock`, which is never replaced.
//! A change that another process made to `index.json` is noticed. Nothing below the folder is reached through a link
//! (`disk`).

pub(crate) mod audit;
mod folder;
pub(crate) mod gc;
mod index;
mod index_json;
pub(crate) mod index_memory;
mod manifest;
mod store;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use self::folder::{Changed, Hold, LayoutFolder};
use self::index::LayoutIndex;
pub(crate) use self::index::{Outgrown, StatedLength};
use self::index_memory::IndexMemory;
use super::{Body, MAX_MANIFEST_BYTES, Put};
use crate::disk::{self, DiskRoot as Below, Place, blocking};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Tag};

/// Longest wait for a turn to read a short list when a blob is asked for: a blob can be served without it.
const LONGEST_TURN: Duration = Duration::from_secs(1);

/// One OCI image layout folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Layout {
    inner: Arc<LayoutFolder>,
}

impl Layout {
    /// Returns the layout in `folder`. Reads nothing before the first query, and creates nothing before the first put.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self::below(Below::at(folder).place())
    }

    /// Returns the layout at a place below a folder; no link leads there.
    pub(crate) fn below(place: Place) -> Self {
        Self { inner: LayoutFolder::new(place, None) }
    }

    /// Does the same for one of several layouts whose indexes share `memory`.
    pub(crate) fn sharing(place: Place, memory: Arc<IndexMemory>) -> Self {
        Self { inner: LayoutFolder::new(place, Some(memory)) }
    }

    /// Returns the existing layout in `folder`, made here or by another program.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if the folder holds none, [`Invalid`](Kind::Invalid) if its `index.json` is not an
    /// index.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let layout = Self::at(folder);
        if !layout.exists().await? {
            let told = Error::new(Kind::NotFound, "open image layout").on(layout.folder().display());
            return Err(told.hint("name a folder that holds the files oci-layout and index.json"));
        }
        layout.read(|_| ()).await?;
        Ok(layout)
    }

    /// Returns the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.path
    }

    /// Whether the folder is an image layout yet.
    pub(crate) async fn exists(&self) -> Result<bool> {
        let inner = Arc::clone(&self.inner);
        blocking(move || Ok(inner.is_layout())).await
    }

    /// Returns the size of the blob of that digest, manifest or not. None if it is not held.
    pub(crate) async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let (place, digest) = (self.blob(digest), *digest);
        blocking(move || Ok(held(&place, &digest)?.map(|data| data.len()))).await
    }

    /// Does the same, so that the caller may rely on the blob: its age for garbage collection starts again now.
    pub(crate) async fn vouch(&self, digest: &Digest) -> Result<Option<u64>> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || gc::renew(&inner, &digest)).await
    }

    /// Does the same for a manifest: false if it is not held under its own name, or has another length.
    pub(crate) async fn vouch_manifest(&self, digest: Digest, size: u64) -> Result<bool> {
        // The list is read after the file became young: a garbage collection that takes old manifests off the list
        // either did so before, and is noticed here, or finds the file young.
        Ok(self.vouch(&digest).await? == Some(size) && self.is_manifest(digest).await?)
    }

    /// Returns the file of a blob and its size.
    pub(crate) async fn file(&self, digest: &Digest) -> Result<(File, u64)> {
        let (place, digest) = (self.blob(digest), *digest);
        blocking(move || {
            match place.open() {
                Ok((_, about)) if is_hollow(&digest, about.len()) => {
                    Err(place.failed("open")(std::io::ErrorKind::NotFound.into()))
                }
                Ok((file, about)) => Ok((file, about.len())),
                Err(why) => {
                    // A link or a pipe of that name is not a blob.
                    let why = if held(&place, &digest)?.is_none() { std::io::ErrorKind::NotFound.into() } else { why };
                    Err(place.failed("open")(why))
                }
            }
        })
        .await
    }

    /// Takes over a complete file on the same file system, whose bytes are known to hash to `digest`. `file` is that
    /// file, locked so that no other process can write to it.
    pub(crate) async fn adopt(&self, from: Place, file: File, digest: Digest) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            disk::open_up(&file, &inner.ensure(&digest)?).map_err(from.failed("make readable"))?;
            // Its last bytes may have arrived long ago.
            file.set_modified(SystemTime::now()).and_then(|()| file.sync_data()).map_err(from.failed("sync"))?;
            let to = {
                let _lock = inner.lock_made(Hold::Shared)?;
                let to = inner.make_room(&digest)?;
                from.replace(&to).map_err(to.failed("rename"))?;
                to
            };
            to.sync_name().map_err(to.failed("sync the folder of"))
        })
        .await
    }

    /// Takes a blob over from another layout without copying it, if the file system can. Returns false if it is not
    /// there.
    pub(crate) async fn mount(&self, from: &Self, digest: Digest) -> Result<bool> {
        let (inner, source) = (Arc::clone(&self.inner), from.blob(&digest));
        blocking(move || {
            let Some(about) = held(&source, &digest)? else { return Ok(false) };
            let _lock = inner.lock_made(Hold::Shared)?;
            let target = index::blob(&inner.place, &digest);
            match disk::link(&source, &target) {
                Err(error) if error.kind() == Kind::NotFound => Ok(false),
                Err(error) => Err(error),
                // A truncated file is replaced when a client sends the bytes.
                Ok(()) if held(&target, &digest)?.is_none_or(|here| here.len() != about.len()) => Ok(false),
                Ok(()) => {
                    // The file has the age that it has in the other repository.
                    gc::touch(&target);
                    Ok(true)
                }
            }
        })
        .await
    }

    /// Removes a tag. Returns false if there is none.
    pub(crate) async fn remove_tag(&self, tag: &Tag) -> Result<bool> {
        let tag = tag.clone();
        self.change(move |index, _| Ok(Changed::so(index.untag(&tag)))).await
    }

    /// Removes a manifest and its tags from the list. Returns false if it is not there. Its bytes may be a layer of
    /// another manifest: they stay, and garbage collection removes them if nothing needs them.
    pub(crate) async fn remove_manifest(&self, digest: Digest) -> Result<bool> {
        self.change(move |index, _| Ok(Changed::so(index.remove(&digest)))).await
    }

    /// Removes a blob. Returns false if it is not held: anything else in its place stays.
    pub(crate) async fn remove_blob(&self, digest: Digest) -> Result<bool> {
        let place = self.blob(&digest);
        blocking(move || Ok(place.is_file() && place.remove().map_err(place.failed("remove"))?)).await
    }

    /// Whether clones of this layout are in use.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.inner) > 1
    }

    /// Whether that digest is known as a manifest.
    pub(crate) async fn is_manifest(&self, digest: Digest) -> Result<bool> {
        self.read(move |index| index.manifest(&digest).is_some()).await
    }

    /// Returns the length of a blob, if an image states one. None too if the list is long and not in memory: one
    /// request for a blob must not make other lists leave it.
    pub(crate) async fn stated_length(&self, digest: Digest) -> Option<StatedLength> {
        let look = move |index: &LayoutIndex| index.lengths.of(&digest);
        let Some(memory) = &self.inner.memory else { return self.read(look).await.ok()? };
        for needs in [0, index_memory::SMALL_BYTES] {
            let turn = timeout(LONGEST_TURN, memory.turn(needs)).await.ok()?.ok()?;
            let inner = Arc::clone(&self.inner);
            if let Ok(told) = turn.run(move |most| inner.read_within(most, look)).await.ok()? {
                return told;
            }
        }
        None
    }

    /// Whether a tag names that manifest.
    pub(crate) async fn is_tagged(&self, digest: Digest) -> Result<bool> {
        self.read(move |index| index.tags().any(|tag| index.tag(tag) == Some(digest))).await
    }

    pub(crate) fn blob(&self, digest: &Digest) -> Place {
        index::blob(&self.inner.place, digest)
    }

    /// Reads from the index, and loads it first if necessary.
    async fn read<T: Send + 'static>(&self, mut look: impl FnOnce(&LayoutIndex) -> T + Send + 'static) -> Result<T> {
        let Some(memory) = &self.inner.memory else {
            let inner = Arc::clone(&self.inner);
            return blocking(move || inner.read(look)).await;
        };
        let mut needs = 0;
        // Ends because it needs more each time, and never more than there is.
        loop {
            let (inner, turn) = (Arc::clone(&self.inner), memory.turn(needs).await?);
            match turn.run(move |most| inner.read_within(most, look)).await? {
                Ok(told) => return Ok(told),
                Err(back) => (look, needs) = (back.work, back.needs),
            }
        }
    }

    /// Changes the index and writes it, alone among all writers of this and of other processes. `change` returns
    /// whether there was anything to do.
    async fn change<T: Send + 'static>(
        &self,
        mut change: impl FnOnce(&mut LayoutIndex, &Place) -> Result<Changed<T>> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        // The guard moves into the work: work on a blocking thread runs on when its caller no longer waits.
        let guard = Arc::clone(&self.inner.writing).lock_owned().await;
        let Some(memory) = &self.inner.memory else {
            let work = move || {
                let _guard = guard;
                inner.change(change)
            };
            return blocking(work).await;
        };
        let mut held = blocking(move || Ok((guard, inner.lock_made(Hold::Alone)?))).await?;
        let mut needs = 1;
        // Ends because it needs more each time, and never more than there is.
        loop {
            let (inner, turn) = (Arc::clone(&self.inner), memory.turn(needs).await?);
            match turn.run(move |most| Ok((inner.change_within(most, change)?, held))).await? {
                (Ok(told), _) => return Ok(told),
                (Err(back), locks) => (change, needs, held) = (back.work, back.needs, locks),
            }
        }
    }

    /// Puts a manifest, unless one of `needed`, with their sizes, is missing or has another length.
    pub(crate) async fn put_complete(
        &self,
        node: &Descriptor,
        bytes: Bytes,
        tags: &[Tag],
        needed: Vec<(Digest, u64)>,
    ) -> Result<Option<Lack>> {
        let body = Body::bytes(node.clone(), bytes);
        Ok(self.put_manifest(node, &body, tags, needed).await?.err())
    }

    /// Puts a manifest, or returns what it lacks.
    async fn put_manifest(
        &self,
        node: &Descriptor,
        body: &Body,
        tags: &[Tag],
        needed: Vec<(Digest, u64)>,
    ) -> Result<Result<Put, Lack>> {
        if node.size > MAX_MANIFEST_BYTES {
            let why = format!("{} bytes announced, at most {MAX_MANIFEST_BYTES} are taken", node.size);
            return Err(Error::new(Kind::Limit, "put manifest").on(node.digest).because(why));
        }
        let held = self.held_bytes(node).await?;
        let is_held = held.is_some();
        let bytes = match held {
            Some(bytes) => bytes,
            None => gather(body, node.size).await?,
        };
        let (node, tags, size) = (node.clone(), tags.to_vec(), node.size);
        let (inner, expected) = (Arc::clone(&self.inner), needed.clone());
        if let Some(lack) = blocking(move || Ok(lack(&inner.place, &expected))).await? {
            // Rejected before anything is created for it.
            return Ok(Err(lack));
        }
        // Checked and put under one lock: garbage is removed before or after both.
        self.change(move |index, folder| {
            let manifest = manifest::parse(&bytes, &node.media_type)?;
            // A deleted manifest counts as missing, even if its bytes exist.
            let strangers = index.strangers(&manifest);
            let is_there = |digest: &Digest| index::blob(folder, digest).is_file();
            let deleted = needed.iter().map(|(digest, _)| *digest).find(|digest| strangers.contains(digest));
            if let Some(lack) = deleted.map(Lack::Missing).or_else(|| lack(folder, &needed)) {
                return Ok(Changed::No(Err(lack)));
            }
            let place = index::blob(folder, &node.digest);
            if is_held && place.is_file() {
                gc::touch(&place);
            } else {
                let mut temporary = disk::Temporary::in_folder(&place.parent())?;
                temporary.write_all(&bytes).map_err(place.failed("write"))?;
                disk::publish(temporary, &place)?;
            }
            let put = if is_held { Put::Present } else { Put::Sent(size) };
            if index.has(&node, &tags) {
                return Ok(Changed::No(Ok(put)));
            }
            index.add(&node, &manifest, &tags);
            index.leave_unlisted(strangers.into_iter().filter(is_there));
            Ok(Changed::Yes(Ok(put)))
        })
        .await
    }

    /// Returns the bytes of `node` if they are here and right.
    async fn held_bytes(&self, node: &Descriptor) -> Result<Option<Bytes>> {
        let (place, node) = (self.blob(&node.digest), node.clone());
        blocking(move || match manifest::read(&place) {
            Ok(bytes) => Ok(node.digest.matches(&bytes).then(|| bytes.into())),
            Err(error) if error.kind() == Kind::Limit || !place.is_file() => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn put_blob(&self, node: &Descriptor, body: &Body) -> Result<Put> {
        // A file of another size can only be damage: it is written again.
        if !body.is_replacing() && self.vouch(&node.digest).await? == Some(node.size) {
            return Ok(Put::Present);
        }
        let (inner, digest) = (Arc::clone(&self.inner), node.digest);
        let (file, mut temporary) = blocking(move || {
            let mut temporary = disk::Temporary::in_folder(&inner.ensure(&digest)?.parent())?;
            let file = temporary.take_file().map_err(inner.place.failed("open a file in"))?;
            Ok((file, temporary))
        })
        .await?;
        let mut writer = disk::Writer::new(file, None);
        let mut stream = body.open();
        while let Some(piece) = stream.next().await {
            writer.push(piece?).await?;
        }
        let (file, _) = writer.finish().await?;
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            temporary.put_back(file);
            let _lock = inner.lock_made(Hold::Shared)?;
            disk::publish(temporary, &inner.make_room(&digest)?)
        })
        .await?;
        Ok(Put::Sent(node.size))
    }

    fn missing(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::NotFound, "find").on(format!("{}/{what}", self.inner.label))
    }
}

/// Why a manifest is not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lack {
    /// It needs this one, which is not held.
    Missing(Digest),
    /// This one is held with this length, and the manifest states another one.
    OtherLength(Digest, u64),
}

/// Returns the first of `needed` that is not held in that size.
fn lack(folder: &Place, needed: &[(Digest, u64)]) -> Option<Lack> {
    needed.iter().find_map(|(digest, size)| {
        match index::blob(folder, digest).look().ok().flatten().filter(std::fs::Metadata::is_file) {
            None => Some(Lack::Missing(*digest)),
            Some(about) if about.len() != *size => Some(Lack::OtherLength(*digest, about.len())),
            Some(_) => None,
        }
    })
}

/// Returns the metadata of a blob, if it exists. Anything else of that name is no blob: it is not served, and the next
/// push replaces it.
fn held(place: &Place, digest: &Digest) -> Result<Option<std::fs::Metadata>> {
    let about = place.look().map_err(place.failed("look at"))?;
    if about.as_ref().is_some_and(|about| !about.is_file()) {
        tracing::warn!(file = %place.path().display(), "not a plain file: it is not served");
    }
    Ok(about.filter(|about| about.is_file() && !is_hollow(digest, about.len())))
}

/// Whether a file of that length cannot be `digest`, as far as the length shows that: a power cut on another program's
/// copy of a folder leaves empty files.
fn is_hollow(digest: &Digest, size: u64) -> bool {
    size == 0 && !digest.matches(b"")
}

async fn gather(body: &Body, size: u64) -> Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut stream = body.open();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}
