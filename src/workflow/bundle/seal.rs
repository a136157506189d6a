//! Sealing: turns an image in a registry into a bundle, with a lock, a policy and signatures over all three.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::make::{self, SidecarContents};
use super::verify;
use crate::copy::{Event, Events};
use crate::disk::read_file;
use crate::document::lock::Inputs;
use crate::document::policy_bundle::{self, Policy, PolicyError};
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, Name, Reference, Tag};
use crate::seed::endpoints::refusals;
use crate::seed::explain;
use crate::seed::signing::{Signature, SignatureFormat, Signer};
use crate::store::{Listing, Registry, Role, Store};
use crate::verify::{Demands, SidecarDemand, SigningKey, VerifyReport};
use crate::wire::Client;

/// Maximum number of warnings for one seal.
const MAX_WARNINGS: usize = 64;

/// The image to seal, and how.
#[derive(Debug)]
pub struct SealRequest {
    /// The image.
    pub image: Reference,
    /// The content that belongs to it; `None` signs the image alone.
    pub content: Option<SealContent>,
    /// The format of the signatures.
    pub format: SignatureFormat,
}

/// The content that a bundle binds to its image.
#[derive(Debug)]
pub struct SealContent {
    /// Folder of the policy: `manifest.json` and `*.rego`.
    pub policy: PathBuf,
    /// The prompt; `None` gives the hash of zero bytes.
    pub prompt: Option<PathBuf>,
    /// The inputs of the tools; `None` as for the prompt.
    pub tool_inputs: Option<PathBuf>,
}

/// A bundle that was sealed.
#[derive(Debug, Serialize)]
pub struct SealedBundle {
    /// The image as the user named it.
    pub reference: Reference,
    /// The digest that was signed.
    pub digest: Digest,
    /// SHA-256 of the public key.
    pub key: String,
    /// The lock beside it.
    pub lock: Option<SealedSidecar>,
    /// The policy beside it.
    pub policy: Option<SealedSidecar>,
    /// The lock's fingerprint.
    pub behavioral_fingerprint: Option<String>,
    /// The version of the policy.
    pub policy_bundle_version: Option<String>,
    /// Every signature, the image's last.
    pub signatures: Vec<Signature>,
    /// Files of the policy's folder that are not part of a policy.
    pub left_out: Vec<String>,
    /// The verification of what the registry serves now.
    pub verification: VerifyReport,
    /// Assumptions that had to be made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weakened: Vec<String>,
    /// Other warnings for the operator.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A sidecar that was put.
#[derive(Debug, Serialize)]
pub struct SealedSidecar {
    /// Its tag.
    pub tag: String,
    /// Its manifest.
    pub digest: Digest,
}

/// The content that was read from disk.
struct Loaded {
    archive: Vec<u8>,
    policy: Policy,
    inputs: Inputs,
    left_out: Vec<String>,
}

/// Seals an image, and verifies the result.
///
/// # Errors
///
/// [`Usage`](Kind::Usage) for an invalid policy and for a reference that cannot have sidecars, before any request is
/// sent; [`Untrusted`](Kind::Untrusted) if the registry serves something else than was put. Otherwise fails as the
/// registry does.
pub async fn seal(request: &SealRequest, key: &SigningKey, client: &Client) -> Result<SealedBundle> {
    let loaded = request.content.as_ref().map(SealContent::load).transpose()?;
    let at = request.place(loaded.is_some())?;
    let store = Registry::new(client, &at.repository, Role::Sink);
    let image = image(&store, &request.image).await?;
    // The image exists, so it is readable. A refusal of a sidecar's or signature's tag may mean that the tag does not
    // exist.
    let store = store.taking_refused_tags_for_absent();
    let lock = loaded.as_ref().map(|Loaded { archive, policy, inputs, .. }| {
        make::lock(&at, image.digest, &make::version_tag(policy), archive, inputs.clone())
    });
    let sidecars = lock.as_ref().zip(loaded.as_ref());
    let sidecars =
        sidecars.map(|(lock, loaded)| SidecarContents { lock: lock.to_bytes(), policy: loaded.archive.clone() });
    if loaded.is_some() || request.format != SignatureFormat::Legacy {
        // Some registries say that they process a subject and have no API to list it by: this answer decides whether the
        // fallback index is maintained. Without an answer the registry's own statement counts.
        let _ = store.api_referrers(&image.digest).await;
    }
    let (events, mut told) = Events::channel(MAX_WARNINGS);
    let signer = Signer::new(key, request.format, &events);
    let put = make::seal(&store, &at, &image, sidecars.as_ref(), &signer).await?;
    let warnings = std::iter::from_fn(|| told.try_recv().ok()).filter_map(|message| match message.event {
        Event::Warning(text) => Some(text),
        _ => None,
    });
    let warnings = warnings.collect();

    let verification = check(&at, image.digest, sidecars.is_some(), key, client).await?;
    let mut told =
        put.sidecars.into_iter().map(|(node, tag)| SealedSidecar { tag: tag.to_string(), digest: node.digest });
    Ok(SealedBundle {
        reference: request.image.clone(),
        digest: image.digest,
        key: key.public_key()?.fingerprint(),
        lock: told.next(),
        policy: told.next(),
        behavioral_fingerprint: lock.map(|lock| lock.fingerprint().to_owned()),
        policy_bundle_version: loaded.as_ref().map(|loaded| loaded.policy.version.to_string()),
        signatures: put.signatures,
        left_out: loaded.map(|loaded| loaded.left_out).unwrap_or_default(),
        verification,
        weakened: refusals(&store).into_iter().collect(),
        warnings,
    })
}

impl SealRequest {
    /// Returns the image with the tag that its sidecars belong to. An image that is signed alone needs no tag.
    fn place(&self, has_sidecars: bool) -> Result<Reference> {
        let tag = self.image.effective_tag();
        if tag.is_none() && has_sidecars {
            return Err(Error::new(Kind::Usage, "seal with a policy needs a tag").on(&self.image).hint(
                "lock and policy stand beside the image as <tag>-lock and <tag>-policy; name the image by its tag",
            ));
        }
        let digest = if tag.is_none() { self.image.digest } else { None };
        Ok(Reference { tag, digest, repository: self.image.repository.clone() })
    }
}

/// Resolves the image from the bytes of its manifest. If a tag and a digest are given, both must name the same image.
async fn image(store: &Registry, named: &Reference) -> Result<Descriptor> {
    let explained = |error| explain::explained(error, named);
    let root = match store.fetch(&named.name()).await {
        Ok(root) => root,
        Err(error) => return Err(explain::explained_with_tags(error, named, store).await),
    };
    if let (Some(tag), Some(digest)) = (&named.tag, &named.digest) {
        let tagged = held_by(store, tag).await.map_err(explained)?;
        if tagged != *digest {
            let why = format!("the tag {tag} names {tagged}");
            return Err(Error::new(Kind::Usage, "seal").on(named).because(why));
        }
    }
    Ok(root.node)
}

async fn held_by(store: &Registry, tag: &Tag) -> Result<Digest> {
    store.resolve(&Name::Tag(tag.clone())).await.map(|node| node.digest)
}

/// Verifies the bundle as any other client does: from what the registry serves.
async fn check(
    at: &Reference,
    sealed: Digest,
    has_sidecars: bool,
    key: &SigningKey,
    client: &Client,
) -> Result<VerifyReport> {
    let mut demands = Demands::new(vec![key.public_key()?]);
    if has_sidecars {
        (demands.lock, demands.policy) = (SidecarDemand::Required, SidecarDemand::Required);
    }
    let report = verify::verify(at, demands, client).await?;
    if report.digest() != Some(sealed) {
        let why = format!("{sealed} was sealed, and the tag has moved meanwhile");
        return Err(Error::new(Kind::Untrusted, "verify what was sealed").on(at).because(why).hint("seal again"));
    }
    report.clone().approve().map_err(|error| error.during("verify what was sealed", at))?;
    Ok(report)
}

impl SealContent {
    fn load(&self) -> Result<Loaded> {
        let (files, left_out) = policy_files(&self.policy)?;
        let refused =
            |why: PolicyError| Error::new(Kind::Usage, "pack the policy").on(self.policy.display()).because(why);
        let archive = policy_bundle::pack(files).map_err(refused)?;
        let policy = Policy::read(&archive).map_err(refused)?;
        let inputs =
            Inputs { prompt_hash: hash(self.prompt.as_deref())?, tool_inputs_hash: hash(self.tool_inputs.as_deref())? };
        Ok(Loaded { archive, policy, inputs, left_out })
    }
}

/// Returns the hash of a file of bounded length, or of zero bytes.
fn hash(path: Option<&Path>) -> Result<String> {
    let bytes = match path {
        Some(path) => read_file(path).map_err(|why| unreadable(path, why))?,
        None => Vec::new(),
    };
    Ok(Digest::sha256(&bytes).to_string())
}

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

/// Returns the files of a policy, and the names of other files beside them. Does not report hidden files.
fn policy_files(folder: &Path) -> Result<(Files, Vec<String>)> {
    let (mut files, mut left_out, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in fs::read_dir(folder).map_err(|why| unreadable(folder, why))? {
        let path = entry.map_err(|why| unreadable(folder, why))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Follows links: files that a cluster mounts into a container are links.
        let meta = fs::metadata(&path).map_err(|why| unreadable(&path, why))?;
        if meta.is_file() && (name == "manifest.json" || name.ends_with(".rego")) {
            // Counted while reading: the reported length may have changed by now, and below /proc it is 0.
            let content = read_at_most(&path, policy_bundle::MAX_INFLATED_BYTES - bytes + 1)?;
            bytes += content.len() as u64;
            if bytes > policy_bundle::MAX_INFLATED_BYTES {
                let why = format!("its files are longer than {} bytes", policy_bundle::MAX_INFLATED_BYTES);
                return Err(Error::new(Kind::Usage, "pack the policy").on(folder.display()).because(why));
            }
            files.push((name, content));
        } else if !name.starts_with('.') {
            left_out.push(name);
        }
    }
    left_out.sort();
    Ok((files, left_out))
}

fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|why| unreadable(path, why))?;
    Ok(bytes)
}

fn unreadable(path: &Path, why: std::io::Error) -> Error {
    Error::new(Kind::Usage, "read").on(path.display()).because(why)
}
