//! Lists the repositories of a registry and the tags of a repository, with or without the images behind them.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::OnceCell;

use super::image_content::{ImageContent, shown};
use crate::error::{Error, Kind, Result, printable};
use crate::oci::{Digest, MediaType, Name, RegistryHost, Repository, RepositoryPath, Tag, tag_order};
use crate::store::{Registry, RegistryCatalog, Role, Root, Store as _};
use crate::wire::Client;

/// How much is asked about each entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListDetail {
    /// Its name: costs one request for a thousand entries.
    Name,
    /// The number of tags of a repository, or the image behind a tag; so many entries at the same time.
    Content(NonZeroUsize),
}

/// The repositories of a registry.
#[derive(Debug, Serialize)]
pub struct RepositoryList {
    /// The registry.
    pub registry: String,
    /// The repositories, by name.
    pub repositories: Vec<ListedRepository>,
}

/// A repository in a list.
#[derive(Debug, Serialize)]
pub struct ListedRepository {
    /// Its path on the registry.
    #[serde(rename = "repository")]
    pub path: String,
    /// The number of its tags, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<usize>,
    /// Why its tags could not be counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The tags of a repository.
#[derive(Debug, Serialize)]
pub struct TagList {
    /// The repository, with its registry.
    pub repository: String,
    /// The tags: names, then versions from the lowest up, then tags of attachments.
    pub tags: Vec<ListedTag>,
}

/// A tag in a list.
#[derive(Debug, Serialize)]
pub struct ListedTag {
    /// The tag.
    pub tag: String,
    /// The image that it names, if that was asked.
    #[serde(flatten)]
    pub image: Option<ListedImage>,
    /// Why its image could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An image in a list.
#[derive(Debug, Clone, Serialize)]
pub struct ListedImage {
    /// The digest of its root.
    pub digest: Digest,
    /// The media type of its root.
    pub media_type: String,
    /// The artifact type of its root, if it declares one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Its platforms, in the order of the index.
    pub platforms: Vec<String>,
    /// The bytes that a pull of all platforms moves, each blob once.
    pub size: u64,
    /// When it was made, as far as an annotation or a configuration says so.
    pub created: Option<Timestamp>,
}

impl RepositoryList {
    /// Lists the repositories of `host`.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](Kind::Unsupported) if the registry has no such list; otherwise fails as the registry does.
    pub async fn read(host: &RegistryHost, detail: ListDetail, client: &Client) -> Result<Self> {
        let listed = RegistryCatalog::new(client, host).repositories().await;
        let mut paths = listed.map_err(|error| without_list(error, host))?;
        paths.sort();
        paths.dedup();
        let entry = |path: &RepositoryPath, tags, error| ListedRepository { path: path.to_string(), tags, error };
        let repositories = match detail {
            ListDetail::Name => paths.iter().map(|path| entry(path, None, None)).collect(),
            ListDetail::Content(at_once) => {
                let counted = stream::iter(paths).map(|path| async move {
                    let repository = Repository { host: host.as_str().to_owned(), path };
                    let count = Registry::new(client, &repository, Role::Source).every_tag().await;
                    let (tags, error) = told(count.map(|tags| tags.len()))?;
                    Ok::<_, Error>(entry(&repository.path, tags, error))
                });
                counted.buffered(at_once.get()).try_collect().await?
            }
        };
        Ok(Self { registry: host.to_string(), repositories })
    }

    /// Returns the number of entries that could not be read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.repositories.iter().filter(|listed| listed.error.is_some()).count()
    }
}

impl TagList {
    /// Lists the tags of `repository`.
    ///
    /// # Errors
    ///
    /// [`NotFound`](Kind::NotFound) if there is no such repository; otherwise fails as the registry does. An image that
    /// cannot be read is no error: its entry says why.
    pub async fn read(repository: &Repository, detail: ListDetail, client: &Client) -> Result<Self> {
        let store = Registry::new(client, repository, Role::Source);
        let mut tags = store.every_tag().await.map_err(|error| not_found(error, repository))?;
        tags.sort_by(tag_order::compare);
        tags.dedup();
        let tags = match detail {
            ListDetail::Name => {
                let entry = |tag: Tag| ListedTag { tag: tag.to_string(), image: None, error: None };
                tags.into_iter().map(entry).collect()
            }
            ListDetail::Content(at_once) => {
                let reader = ImageReader { store, known: Mutex::default() };
                let read = stream::iter(tags).map(|tag| {
                    let reader = &reader;
                    async move {
                        let (image, error) = told(reader.image(&tag).await)?;
                        Ok::<_, Error>(ListedTag { tag: tag.to_string(), image, error })
                    }
                });
                read.buffered(at_once.get()).try_collect().await?
            }
        };
        Ok(Self { repository: repository.to_string(), tags })
    }

    /// Returns the number of entries that could not be read.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.tags.iter().filter(|listed| listed.error.is_some()).count()
    }
}

/// Images by digest, read at most once: many tags may name one.
type KnownImages = HashMap<Digest, Arc<OnceCell<ListedImage>>>;

/// Reads the images behind tags.
struct ImageReader {
    store: Registry,
    known: Mutex<KnownImages>,
}

impl ImageReader {
    async fn image(&self, tag: &Tag) -> Result<ListedImage> {
        let root = self.store.fetch(&Name::Tag(tag.clone())).await?;
        // A panic elsewhere leaves the map whole: every change is one insertion.
        let cell = Arc::clone(crate::sync::lock(&self.known).entry(root.node.digest).or_default());
        cell.get_or_try_init(|| self.read(&root)).await.cloned()
    }

    async fn read(&self, root: &Root) -> Result<ListedImage> {
        // One manifest at a time: several images are read at the same time already.
        let content = ImageContent::read(&self.store, root, NonZeroUsize::MIN).await?;
        let config = content.config(&self.store).await?;
        let mut platforms = content.platforms();
        platforms.extend(config.platform.map(|platform| shown(&platform.to_string())));
        Ok(ListedImage {
            digest: root.node.digest,
            media_type: shown(root.node.media_type.as_str()),
            artifact_type: content.manifest.artifact_type.as_ref().map(MediaType::as_str).map(shown),
            platforms,
            size: content.size,
            created: config.created,
        })
    }
}

/// Turns an error about one entry into its text. An error that every other entry would have too stays one.
fn told<T>(answer: Result<T>) -> Result<(Option<T>, Option<String>)> {
    match answer {
        Ok(found) => Ok((Some(found), None)),
        Err(error) => match error.kind() {
            Kind::NotFound | Kind::Corrupt | Kind::Invalid | Kind::Limit | Kind::Unsupported => {
                Ok((None, Some(printable(&error.chain()))))
            }
            _ => Err(error),
        },
    }
}

fn not_found(error: Error, repository: &Repository) -> Error {
    match error.kind() {
        Kind::NotFound => error.hint(format!(
            "check the repository's name; registry ls {} lists the repositories, where the registry shows them",
            repository.host
        )),
        _ => error,
    }
}

fn without_list(error: Error, host: &RegistryHost) -> Error {
    match error.kind() {
        Kind::Unsupported | Kind::Denied | Kind::NotFound => error
            .hint(format!("many registries do not list their repositories: name one, registry ls {host}/REPOSITORY")),
        _ => error,
    }
}
