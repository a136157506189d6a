//! An OCI image layout: one folder with `oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`.
//!
//! What lies there is a standard thing (image-spec, "Image Layout"): skopeo and others read it as `oci:<folder>`, and
//! folders that they made are read here. `index.json` lists every manifest that was put, tagged or not, so that the media
//! type given with it comes back; of a foreign layout, which may list its roots alone, the rest is found by following
//! them. Manifests may refer to what is not there.
//!
//! Files appear by temporary file, sync and rename: after a power cut they are there whole or not at all. Writers of one
//! process wait for each other on a mutex, those of several on a lock on `oci-layout`, which is never replaced; a change
//! that another process made to `index.json` is seen.

pub(crate) mod audit;
pub(crate) mod file;
mod folder;
pub(crate) mod garbage;
mod index;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;

use self::file::{blocking, failed};
use self::folder::{Changed, Folder, Hold, VERSION_FILE};
use self::index::Index;
use super::{Body, ByteStream, Listing, MAX_MANIFEST_BYTES, Put, Root, Store, Want};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Tag};

/// One OCI image layout folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Layout {
    inner: Arc<Folder>,
}

impl Layout {
    /// The layout in `folder`. Nothing is read before something is asked, and nothing made before something is put.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { inner: Arc::new(Folder::new(folder.into())) }
    }

    /// The layout that is in `folder` already, made here or by another program.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if the folder holds none, [`Invalid`](Kind::Invalid) if its `index.json` is no index.
    pub async fn open(folder: impl Into<PathBuf>) -> Result<Self> {
        let layout = Self::at(folder);
        if !layout.exists().await? {
            let told = Error::new(Kind::NotFound, "open image layout").on(layout.folder().display());
            return Err(told.hint("name a folder that holds the files oci-layout and index.json"));
        }
        layout.read(|_| ()).await?;
        Ok(layout)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.path
    }

    /// Whether the folder is an image layout yet.
    pub(crate) async fn exists(&self) -> Result<bool> {
        let inner = Arc::clone(&self.inner);
        blocking(move || Ok(inner.path.join(VERSION_FILE).is_file())).await
    }

    /// Size of the blob of that digest, manifest or not. None if it is not held.
    pub(crate) async fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        let digest = *digest;
        blocking(move || match fs::metadata(&path) {
            Ok(data) => Ok(Some(data.len()).filter(|size| !is_hollow(&digest, *size))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("look at", &path, error)),
        })
        .await
    }

    /// The same, and whoever hears that it is held may rely on it: as garbage it counts from now on.
    pub(crate) async fn vouch(&self, digest: &Digest) -> Result<Option<u64>> {
        let (inner, digest) = (Arc::clone(&self.inner), *digest);
        blocking(move || garbage::renew(&inner, &digest)).await
    }

    /// The same of a manifest: false if it is not held under its own name, or not with that length.
    pub(crate) async fn vouch_manifest(&self, digest: Digest, size: u64) -> Result<bool> {
        // Listed after it was made young: whoever takes old ones off the list did so before and is seen, or sees that it is young.
        Ok(self.vouch(&digest).await? == Some(size) && self.is_manifest(digest).await?)
    }

    /// The file of a blob and its size.
    pub(crate) async fn file(&self, digest: &Digest) -> Result<(File, u64)> {
        let (path, digest) = (self.path(digest), *digest);
        blocking(move || {
            let file = File::open(&path).map_err(|e| failed("open", &path, e))?;
            let size = file.metadata().map_err(|e| failed("look at", &path, e))?.len();
            if is_hollow(&digest, size) {
                return Err(Error::new(Kind::NotFound, "open").on(path.display()).because("the file is empty"));
            }
            Ok((file, size))
        })
        .await
    }

    /// Takes over a complete file on the same file system, whose bytes are known to hash to `digest`.
    pub(crate) async fn adopt(&self, from: PathBuf, digest: Digest) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.ensure(&digest)?;
            let file = File::open(&from).map_err(|e| failed("open", &from, e))?;
            // Its last bytes may have come long ago.
            file.set_modified(SystemTime::now())
                .and_then(|()| file.sync_data())
                .map_err(|e| failed("sync", &from, e))?;
            let to = index::blob(&inner.path, &digest);
            {
                let _lock = inner.lock(Hold::Shared)?;
                fs::rename(&from, &to).map_err(|e| failed("rename", &to, e))?;
            }
            file::sync_parent(&to)
        })
        .await
    }

    /// Takes a blob over from another layout without copying it, where the file system can. False if it is not there.
    pub(crate) async fn mount(&self, from: &Self, digest: Digest) -> Result<bool> {
        let (inner, source) = (Arc::clone(&self.inner), from.path(&digest));
        blocking(move || {
            if !fs::metadata(&source).is_ok_and(|data| data.is_file() && !is_hollow(&digest, data.len())) {
                return Ok(false);
            }
            inner.ensure(&digest)?;
            let _lock = inner.lock(Hold::Shared)?;
            let target = index::blob(&inner.path, &digest);
            match file::link(&source, &target) {
                Err(error) if error.kind() == Kind::NotFound => Ok(false),
                // The file is as old as in the other repository.
                linked => linked.map(|()| {
                    garbage::touch(&target);
                    true
                }),
            }
        })
        .await
    }

    /// Takes a tag away. False if there is none.
    pub(crate) async fn remove_tag(&self, tag: &Tag) -> Result<bool> {
        let tag = tag.clone();
        self.change(move |index, _| Ok(Changed::so(index.untag(&tag)))).await
    }

    /// Takes a manifest and its tags away. False if it is not held.
    pub(crate) async fn remove_manifest(&self, digest: Digest) -> Result<bool> {
        let layout = self.clone();
        let guard = Arc::clone(&self.inner.writing).lock_owned().await;
        blocking(move || {
            let _guard = guard;
            // The list first: a crash between the two leaves a blob that nothing names, not a name without content.
            let is_removed = layout.inner.change(|index, _| Ok(Changed::so(index.remove(&digest))))?;
            if is_removed {
                remove_file(&layout.path(&digest))?;
            }
            Ok(is_removed)
        })
        .await
    }

    /// Takes a blob away. False if it is not held.
    pub(crate) async fn remove_blob(&self, digest: Digest) -> Result<bool> {
        let path = self.path(&digest);
        blocking(move || remove_file(&path)).await
    }

    /// Whether that digest is known as a manifest.
    pub(crate) async fn is_manifest(&self, digest: Digest) -> Result<bool> {
        self.read(move |index| index.manifest(&digest).is_some()).await
    }

    /// Whether a tag names that manifest.
    pub(crate) async fn is_tagged(&self, digest: Digest) -> Result<bool> {
        self.read(move |index| index.tags().any(|tag| index.tag(tag) == Some(digest))).await
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        index::blob(&self.inner.path, digest)
    }

    /// Looks into the index, which is read first if need be.
    async fn read<T: Send + 'static>(&self, look: impl FnOnce(&Index) -> T + Send + 'static) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.read(look)).await
    }

    /// Changes the index and writes it, alone among all writers of this and of other processes. `change` says whether
    /// there was anything to do.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Index, &Path) -> Result<Changed<T>> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        // The guard goes into the work: work on a blocking thread goes on when its caller no longer waits.
        let guard = Arc::clone(&self.inner.writing).lock_owned().await;
        blocking(move || {
            let _guard = guard;
            inner.change(change)
        })
        .await
    }

    /// The first of `expected` that is held with another length, and that length.
    pub(crate) async fn other_length(&self, expected: Vec<(Digest, u64)>) -> Result<Option<(Digest, u64)>> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let held = |digest: &Digest| fs::metadata(index::blob(&inner.path, digest)).map(|data| data.len()).ok();
            let mut expected = expected.into_iter();
            Ok(expected.find_map(|(digest, size)| Some((digest, held(&digest).filter(|held| *held != size)?))))
        })
        .await
    }

    /// Puts a manifest unless one of `needed` is missing, which is then named.
    pub(crate) async fn put_complete(
        &self,
        node: &Descriptor,
        bytes: Bytes,
        tags: &[Tag],
        needed: Vec<Digest>,
    ) -> Result<Option<Digest>> {
        let body = Body::bytes(node.clone(), bytes);
        Ok(self.put_manifest(node, &body, tags, needed).await?.err())
    }

    /// Puts a manifest, or names the one of `needed` that is missing.
    async fn put_manifest(
        &self,
        node: &Descriptor,
        body: &Body,
        tags: &[Tag],
        needed: Vec<Digest>,
    ) -> Result<Result<Put, Digest>> {
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
        // Looked at and put under one lock: garbage is removed before that or after it.
        self.change(move |index, folder| {
            if let Some(digest) = needed.into_iter().find(|digest| !index::blob(folder, digest).is_file()) {
                return Ok(Changed::No(Err(digest)));
            }
            let manifest = file::parse(&bytes, &node.media_type)?;
            let path = index::blob(folder, &node.digest);
            if is_held && path.is_file() {
                garbage::touch(&path);
            } else {
                let mut temporary = file::temporary(path.parent().unwrap_or(folder))?;
                temporary.write_all(&bytes).map_err(|e| failed("write", &path, e))?;
                file::publish(temporary, &path)?;
            }
            let put = if is_held { Put::Present } else { Put::Sent(size) };
            if index.has(&node, &tags) {
                return Ok(Changed::No(Ok(put)));
            }
            index.add(&node, &manifest, &tags);
            Ok(Changed::Yes(Ok(put)))
        })
        .await
    }

    /// The bytes of `node` if they are here and right.
    async fn held_bytes(&self, node: &Descriptor) -> Result<Option<Bytes>> {
        let (path, node) = (self.path(&node.digest), node.clone());
        blocking(move || match file::small(&path) {
            Ok(bytes) => Ok(node.digest.matches(&bytes).then(|| bytes.into())),
            Err(error) if [Kind::NotFound, Kind::Limit].contains(&error.kind()) => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    async fn put_blob(&self, node: &Descriptor, body: &Body) -> Result<Put> {
        // A file of another size can only be damage: it is written anew.
        if !body.is_replacing() && self.vouch(&node.digest).await? == Some(node.size) {
            return Ok(Put::Present);
        }
        let (inner, digest) = (Arc::clone(&self.inner), node.digest);
        let (file, temporary) = blocking(move || {
            let path = inner.ensure(&digest)?;
            let temporary = file::temporary(path.parent().unwrap_or(&inner.path))?;
            let (file, path) = temporary.into_parts();
            Ok((file, path))
        })
        .await?;
        let mut writer = file::Writer::new(file, None);
        let mut stream = body.open();
        while let Some(piece) = stream.next().await {
            writer.push(piece?).await?;
        }
        let (file, _) = writer.finish().await?;
        let (inner, path) = (Arc::clone(&self.inner), self.path(&node.digest));
        blocking(move || {
            let _lock = inner.lock(Hold::Shared)?;
            file::publish(tempfile::NamedTempFile::from_parts(file, temporary), &path)
        })
        .await?;
        Ok(Put::Sent(node.size))
    }

    fn missing(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::NotFound, "find").on(format!("{}/{what}", self.inner.label))
    }
}

/// Whether a file of that length cannot be `digest`, as far as that can be told without reading: a power cut on another
/// program's copy of a folder leaves empty files.
fn is_hollow(digest: &Digest, size: u64) -> bool {
    size == 0 && !digest.matches(b"")
}

fn remove_file(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path, error)),
    }
}

async fn gather(body: &Body, size: u64) -> Result<Bytes> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
    let mut stream = body.open();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes.freeze())
}

#[async_trait]
impl Store for Layout {
    fn label(&self) -> &str {
        &self.inner.label
    }

    async fn resolve(&self, name: &Name, want: Want) -> Result<Root> {
        let (inner, layout, name) = (Arc::clone(&self.inner), self.clone(), name.clone());
        blocking(move || {
            let found = inner.read(|index| {
                let digest = match &name {
                    Name::Digest(digest) => Some(*digest),
                    Name::Tag(tag) => index.tag(tag),
                };
                digest.and_then(|digest| index.manifest(&digest).cloned())
            })?;
            let node = found.ok_or_else(|| layout.missing(&name))?;
            if want == Want::Digest {
                return Ok(Root { node, bytes: None });
            }
            let bytes = file::small(&layout.path(&node.digest))?;
            if !node.digest.matches(&bytes) {
                return Err(Error::new(Kind::Corrupt, "read").on(format!("{}@{}", inner.label, node.digest)));
            }
            Ok(Root { node, bytes: Some(bytes.into()) })
        })
        .await
    }

    async fn contains(&self, node: &Descriptor) -> Result<bool> {
        let digest = node.digest;
        // A manifest that lies here as a blob only, or is of another type, could not be had by its name.
        if node.is_manifest() && !self.is_manifest(digest).await? {
            return Ok(false);
        }
        Ok(self.size(&digest).await? == Some(node.size))
    }

    async fn open(&self, node: &Descriptor, from: u64) -> Result<ByteStream> {
        let found = self.file(&node.digest).await;
        let (file, size) = found.map_err(|error| match error.kind() {
            Kind::NotFound => self.missing(node.digest),
            _ => error,
        })?;
        if size != node.size || from > size {
            let why = format!("{size} bytes are held, {} from {from} on were asked for", node.size);
            let subject = format!("{}@{}", self.inner.label, node.digest);
            return Err(Error::new(Kind::Corrupt, "open").on(subject).because(why));
        }
        Ok(file::stream(file, from, size - from))
    }

    async fn put(&self, node: &Descriptor, body: &Body, tags: &[Tag]) -> Result<Put> {
        if node.is_manifest() {
            let put = self.put_manifest(node, body, tags, Vec::new()).await?;
            // Nothing is needed, so nothing is missing.
            return Ok(put.unwrap_or(Put::Present));
        }
        if !tags.is_empty() {
            return Err(Error::new(Kind::Usage, "tag a blob").on(node.digest));
        }
        self.put_blob(node, body).await
    }

    fn expect(&self, _: usize) {}
}

#[async_trait]
impl Listing for Layout {
    async fn tags(&self) -> Result<Vec<Tag>> {
        self.read(|index| index.tags().cloned().collect()).await
    }

    async fn few_tags(&self) -> Result<Vec<Tag>> {
        self.tags().await
    }

    async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let subject = *subject;
        self.read(move |index| index.referrers(&subject)).await
    }

    async fn api_referrers(&self, subject: &Digest) -> Result<Option<Vec<Descriptor>>> {
        self.referrers(subject).await.map(Some)
    }
}
