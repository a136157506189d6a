//! The image to seed, its source, and checks of the destination.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use autonomy_registry::copy::{self, Lanes};
use autonomy_registry::oci::{Descriptor, Digest};
use autonomy_registry::serve::testkit::Testbed;
use autonomy_registry::serve::{Profile, ServerAuth};
use autonomy_registry::store::{Registry, Role, read_manifest};
use autonomy_registry::trust::{artifact, sigstore_bundle};
use autonomy_registry::verify::{Demands, SigningKey};
use autonomy_registry::wire::{Client, ClientOptions};
use autonomy_registry::workflow::{Seed, Trust};
use jiff::Timestamp;
use testkit::images;
use testkit::images::shape::{self, Image};

/// The registry that the servers imitate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Two,
    Three,
    Zot,
}

impl Mode {
    pub(super) const ALL: [Self; 3] = [Self::Two, Self::Three, Self::Zot];

    /// The name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Two => "2.8",
            Self::Three => "3",
            Self::Zot => "zot",
        }
    }

    /// That registry with token authentication; the token service gives everyone a token.
    pub(super) fn guarded(self) -> Profile {
        let auth = ServerAuth::Bearer { login: None, expires_in: std::time::Duration::from_secs(300) };
        Profile { auth, ..self.open() }
    }

    /// That registry without authentication.
    pub(super) fn open(self) -> Profile {
        match self {
            Self::Two => Profile::distribution_2(),
            Self::Three => Profile::distribution_3(),
            Self::Zot => Profile::zot(),
        }
    }
}

/// A folder with a signed image, served anew for each cell.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) mode: Mode,
    pub(super) folder: tempfile::TempDir,
    pub(super) root: Descriptor,
    /// The smallest layer of the first platform.
    pub(super) layer: Descriptor,
    /// The manifest of the first platform.
    pub(super) child: Descriptor,
    /// Offset of the first child's size in the root.
    pub(super) first_size: u64,
    /// Everything that has to reach the destination: the image and its signature.
    pub(super) digests: BTreeSet<Digest>,
    pub(super) demands: Demands,
}

const LAYERS: [u64; 3] = [1000, 1200, 1500];

/// The image that the destination's tag named before.
pub(super) fn former() -> Image {
    shape::two_platforms(9, &[500])
}

impl Source {
    pub(super) async fn publish(mode: Mode) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bed = Testbed::over(folder.path(), mode.open()).await;
        let client = Client::new(ClientOptions { allow_plain_http: true, ..ClientOptions::default() }).unwrap();
        let store = Registry::new(&client, &bed.repository("app"), Role::Sink);
        let image = shape::two_platforms(1, &LAYERS);
        let root = image.put(&store, &["v1".parse().unwrap()]).await;
        let key = SigningKey::generate().unwrap();
        let now = Timestamp::now();
        let statement = sigstore_bundle::statement(&root.digest, Some(now));
        let signature = key.sign(&sigstore_bundle::pae(&statement)).unwrap();
        let signed = sigstore_bundle::build(&key.public_key().unwrap(), &statement, &signature);
        let attached = artifact::bundle_manifest(&root, &signed, now);
        let mut digests: BTreeSet<_> = image.nodes.iter().map(|node| node.digest).collect();
        for (blob, bytes) in attached.blobs {
            digests.insert(images::put(&store, blob.media_type, bytes).await.digest);
        }
        digests.insert(images::put(&store, attached.node.media_type, attached.manifest).await.digest);
        let layer = image.nodes.iter().find(|node| !node.is_manifest()).unwrap().clone();
        let child = image.nodes.iter().find(|node| node.is_manifest()).unwrap().clone();
        let text = read_manifest(&store, &root).await.unwrap();
        let first_size = String::from_utf8_lossy(&text).find("\"size\":").unwrap() as u64 + 7;
        let demands = Demands::new(vec![key.public_key().unwrap()]);
        Self { mode, folder, root, layer, child, first_size, digests, demands }
    }
}

/// The digests that name files in a data folder, and those among them whose content does not match.
pub(super) fn held(data: &Path) -> (BTreeSet<Digest>, Vec<PathBuf>) {
    let (mut right, mut wrong, mut open) = (BTreeSet::new(), Vec::new(), vec![data.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                open.push(path);
            } else if folder.ends_with("blobs/sha256") && entry.file_name().len() == 64 {
                let digest = Digest::sha256(&std::fs::read(&path).unwrap());
                if digest.hex() == entry.file_name().to_str().unwrap() {
                    right.insert(digest);
                } else {
                    wrong.push(path);
                }
            }
        }
    }
    (right, wrong)
}

/// `app:v1` at the source, `site/app:v1` at the destination, with little concurrency.
pub(super) fn seed(source: &Testbed, sink: &Testbed, trust: Trust, folder: &Path) -> Seed {
    let few = NonZeroUsize::new(2).unwrap();
    let from = format!("{}/app:v1", source.host()).parse().unwrap();
    let to = format!("{}/site/app:v1", sink.host()).parse().unwrap();
    let engine = copy::Options { lanes: Lanes::new(few, few), ..copy::Options::default() };
    Seed { engine, folder: folder.to_owned(), ..Seed::new(from, to, trust) }
}
