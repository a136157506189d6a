//! The demo: two registries on this machine, a signed bundle, a verified seed, and forgeries that are refused.
//!
//! Everything uses the same code as a real run: HTTP, the workflow of `registry seed`, its record. No output is prepared
//! in advance. The line to the first registry is slow, so that the progress of a copy can be watched.

mod slow_line;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::slow_line::SlowLine;
use super::bundle::make::{self, SidecarContents};
use super::{Outcome, Seed, Trust, seed};
use crate::copy::Events;
use crate::document::lock::Inputs;
use crate::document::policy_bundle;
use crate::error::{Error, Kind, Result};
use crate::oci::{Descriptor, Digest, MediaType, Name, Reference};
use crate::seed::signing::{SignatureFormat, Signer, put_attachment};
use crate::serve::{ServeOptions, Server};
use crate::store::{self, Registry, Role, Store};
use crate::transport::Native;
use crate::trust::artifact;
use crate::verify::{Demands, PublicKey, SigningKey, signature_tag};
use crate::wire::{self, Client};

const REPOSITORY: &str = "robot-behavior";
const POLICY_VERSION: &str = "1.2.0";
const PROMPT: &[u8] = b"carry the tray, slowly";

/// Bytes of the layers of each platform at [`DemoPace::Watched`]: 60 MiB in all.
const LAYERS: [usize; 2] = [12 << 20, 8 << 20];
/// Bytes a second over the line to the first registry: nine seconds for these layers.
const BYTES_PER_SECOND: u32 = 7 << 20;

/// How much there is to watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DemoPace {
    /// 60 MiB over a slow line.
    Watched,
    /// A few KiB, as fast as this machine can.
    Fast,
}

/// A demo in progress. Its registries run until it is dropped.
#[derive(Debug)]
pub struct Demo {
    folder: PathBuf,
    upstream: DemoRegistry,
    site: DemoRegistry,
    client: Client,
    key: SigningKey,
    pace: DemoPace,
}

/// A registry of the demo.
#[derive(Debug)]
struct DemoRegistry {
    /// The address for clients: of the line in front of it, if there is one.
    address: SocketAddr,
    _line: Option<SlowLine>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// The published bundle.
#[derive(Debug)]
pub struct Published {
    /// The bundle's reference.
    pub reference: Reference,
    /// The digest that its tag names.
    pub digest: Digest,
    /// The file with the public key that verifies it.
    pub public_key: PathBuf,
}

/// A forged bundle, and the error that refused it.
#[derive(Debug)]
pub struct ForgeryRefusal {
    /// The way in which it is forged.
    pub forgery: Forgery,
    /// The reason for the refusal.
    pub error: Error,
}

/// The ways to forge a bundle: one for each step of the verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// Another image under the genuine one's signature.
    Image,
    /// A lock that was made for another image.
    Lock,
    /// A lock that was edited after its fingerprint was taken.
    Prompt,
    /// A policy of another version than the lock names.
    Policy,
}

impl Forgery {
    /// All forgeries, in the order of the steps that detect them.
    pub const ALL: [Self; 4] = [Self::Image, Self::Lock, Self::Prompt, Self::Policy];

    /// Returns a description.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "another image, under the genuine one's signature",
            Self::Lock => "a signed lock that was made for another image",
            Self::Prompt => "a signed lock that was edited after it was sealed",
            Self::Policy => "a signed policy of another version than the lock names",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::Image => "forged-image",
            Self::Lock => "forged-lock",
            Self::Prompt => "forged-prompt",
            Self::Policy => "forged-policy",
        }
    }
}

impl Demo {
    /// Starts two empty registries with their data below `folder`.
    ///
    /// # Errors
    ///
    /// [`Local`](Kind::Local) if no port is free or a folder cannot be created.
    pub async fn start(folder: &Path, pace: DemoPace) -> Result<Self> {
        let rate = (pace == DemoPace::Watched).then_some(BYTES_PER_SECOND);
        Ok(Self {
            pace,
            upstream: DemoRegistry::start(&folder.join("upstream"), rate).await?,
            site: DemoRegistry::start(&folder.join("site"), None).await?,
            client: Client::new(wire::ClientOptions { allow_plain_http: true, ..wire::ClientOptions::default() })?,
            key: SigningKey::generate()?,
            folder: folder.to_owned(),
        })
    }

    /// Returns the addresses of the two registries: the one that images come from, and the site's.
    #[must_use]
    pub fn addresses(&self) -> (SocketAddr, SocketAddr) {
        (self.upstream.address, self.site.address)
    }

    /// Publishes a bundle of three platforms: image, lock, policy, an SBOM that refers to the image, and signatures.
    ///
    /// # Errors
    ///
    /// Fails if the registry or the disk does.
    pub async fn publish(&self) -> Result<Published> {
        let at = self.at(&self.upstream, "v1")?;
        let store = self.store(&at, Role::Sink);
        let layers: &[usize] = if self.pace == DemoPace::Watched { &LAYERS } else { &[] };
        let image = self.image(&store, &at, "the behavior that was tested", layers).await?;
        let sidecars = sidecars(&at, image.digest)?;
        self.seal(&store, &at, &image, &sidecars).await?;
        put_attachment(&store, &sbom(&image), &[]).await?;
        let public_key = self.public_key();
        let write = std::fs::write(&public_key, self.key.public_pem()?);
        write.map_err(|why| Error::new(Kind::Local, "write").on(public_key.display()).because(why))?;
        Ok(Published { reference: at, digest: image.digest, public_key })
    }

    /// Seeds the site with the bundle that [`publish`](Self::publish) made.
    ///
    /// # Errors
    ///
    /// Fails like [`seed`](crate::seed::seed()).
    pub async fn seed(&self, events: &Events) -> Result<Outcome> {
        self.seed_tag("v1", events).await
    }

    /// Publishes a forged bundle and tries to seed the site with it.
    ///
    /// # Errors
    ///
    /// [`Untrusted`](Kind::Untrusted) if the bundle was *not* refused, or the site serves it all the same.
    pub async fn forge(&self, forgery: Forgery) -> Result<ForgeryRefusal> {
        let at = self.at(&self.upstream, forgery.tag())?;
        let store = self.store(&at, Role::Sink);
        let image = self.image(&store, &at, forgery.as_str(), &[]).await?;
        let mut sidecars = sidecars(&at, image.digest)?;
        match forgery {
            Forgery::Image => {}
            Forgery::Lock => {
                sidecars.lock = lock(&at, Digest::sha256(b"another image"), POLICY_VERSION, &sidecars.policy);
            }
            Forgery::Prompt => sidecars.lock = edited(&sidecars.lock),
            Forgery::Policy => sidecars.lock = lock(&at, image.digest, "1.3.0", &sidecars.policy),
        }
        self.seal(&store, &at, &image, &sidecars).await?;
        if forgery == Forgery::Image {
            self.steal_signature(&store, &image).await?;
        }
        let error = match self.seed_tag(forgery.tag(), &Events::none()).await {
            Ok(_) => return Err(Error::new(Kind::Untrusted, "refuse").on(forgery.as_str())),
            Err(error) => error,
        };
        let site = self.at(&self.site, forgery.tag())?;
        match store::find(&self.store(&site, Role::Source), &site.name()).await {
            Ok(None) => Ok(ForgeryRefusal { forgery, error }),
            _ => Err(Error::new(Kind::Untrusted, "keep from the site").on(forgery.as_str()).because(error)),
        }
    }

    /// Stops both registries and waits until they have shut down.
    pub async fn finish(mut self) {
        for registry in [&mut self.upstream, &mut self.site] {
            registry.stop.take();
            let _ = (&mut registry.task).await;
        }
    }

    async fn seed_tag(&self, tag: &str, events: &Events) -> Result<Outcome> {
        let public_key = self.public_key();
        let key = PublicKey::from_pem(self.key.public_pem()?.as_bytes())?;
        let trust = Trust::Verify { demands: Box::new(Demands::new(vec![key])), key: public_key.display().to_string() };
        let mut request = Seed::new(self.at(&self.upstream, tag)?, self.at(&self.site, tag)?, trust);
        request.scope.sidecars = super::SidecarHandling::Copy;
        request.folder = self.folder.join("record");
        seed(&request, &self.client, &super::Journal::none(), &Native, events).await
    }

    /// Replaces the forged image's signature with the genuine one's.
    async fn steal_signature(&self, store: &Registry, forged: &Descriptor) -> Result<()> {
        let genuine = store.resolve(&self.at(&self.upstream, "v1")?.name()).await?;
        let tags = (signature_tag(&genuine.digest), signature_tag(&forged.digest));
        let (Some(from), Some(to)) = tags else {
            return Err(Error::new(Kind::Local, "name the signature's tag"));
        };
        let signature = store.fetch(&Name::Tag(from)).await?;
        store::put_bytes(store, &signature.node, signature.bytes, &[to]).await.map(drop)
    }

    async fn image(&self, store: &Registry, at: &Reference, text: &str, layers: &[usize]) -> Result<Descriptor> {
        let tag = at.tag.as_ref().ok_or_else(|| Error::new(Kind::Usage, "name the tag").on(at))?;
        make::image(store, &["amd64", "arm64", "riscv64"], text, layers, tag).await
    }

    async fn seal(
        &self,
        store: &Registry,
        at: &Reference,
        image: &Descriptor,
        sidecars: &SidecarContents,
    ) -> Result<()> {
        let signer = Signer::new(&self.key, SignatureFormat::Legacy, &Events::none());
        make::seal(store, at, image, Some(sidecars), &signer).await.map(drop)
    }

    fn at(&self, registry: &DemoRegistry, tag: &str) -> Result<Reference> {
        let text = format!("{}/{REPOSITORY}:{tag}", registry.address);
        text.parse().map_err(|why| Error::new(Kind::Local, "name").on(text).because(why))
    }

    fn store(&self, at: &Reference, role: Role) -> Registry {
        Registry::new(&self.client, &at.repository, role)
    }

    fn public_key(&self) -> PathBuf {
        self.folder.join("cosign.pub")
    }
}

fn sidecars(at: &Reference, image: Digest) -> Result<SidecarContents> {
    let manifest = format!(r#"{{"name":"{REPOSITORY}","policy_bundle_version":"{POLICY_VERSION}"}}"#);
    let rego = "package behavior\n\ndefault allow := false\n\nallow if input.speed < 2\n";
    let files = vec![("manifest.json".to_owned(), manifest.into_bytes()), ("motion.rego".to_owned(), rego.into())];
    let policy = policy_bundle::pack(files).map_err(|why| Error::new(Kind::Local, "pack the policy").because(why))?;
    Ok(SidecarContents { lock: lock(at, image, POLICY_VERSION, &policy), policy })
}

fn lock(at: &Reference, image: Digest, version: &str, policy: &[u8]) -> Vec<u8> {
    let inputs =
        Inputs { prompt_hash: Digest::sha256(PROMPT).to_string(), tool_inputs_hash: Digest::sha256(b"").to_string() };
    make::lock(at, image, version, policy, inputs).to_bytes()
}

/// Returns a lock with another prompt and the old fingerprint.
fn edited(lock: &[u8]) -> Vec<u8> {
    let honest = Digest::sha256(PROMPT).to_string();
    let edited = Digest::sha256(b"carry the tray, fast").to_string();
    String::from_utf8_lossy(lock).replace(&honest, &edited).into_bytes()
}

/// Returns a bill of materials that refers to the image.
fn sbom(image: &Descriptor) -> artifact::Attachment {
    let content = br#"{"spdxVersion":"SPDX-2.3","name":"robot-behavior","packages":[]}"#;
    artifact::artifact_manifest(&MediaType::new("application/spdx+json"), image, content)
}

impl DemoRegistry {
    async fn start(folder: &Path, rate: Option<u32>) -> Result<Self> {
        let server = Server::bind(ServeOptions::new(folder, SocketAddr::from(([127, 0, 0, 1], 0)))).await?;
        let line = match rate {
            Some(rate) => Some(SlowLine::to(server.address(), rate).await?),
            None => None,
        };
        let address = line.as_ref().map_or(server.address(), |line| line.address);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            if let Err(error) = server.run(shutdown).await {
                tracing::warn!(error = %error.chain(), "a registry of the tour ended");
            }
        });
        Ok(Self { address, _line: line, stop: Some(stop), task })
    }
}
