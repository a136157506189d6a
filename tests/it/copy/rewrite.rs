//! `registry seed --rewrite-index`: a smaller index replaces the source's, signed by the site.

use std::process::Output;

use autonomy_registry::oci::{Descriptor, Manifest, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::Kind;
use autonomy_registry::store::{Root, Store, read_manifest};
use autonomy_registry::trust::{artifact, simple_signing};
use autonomy_registry::verify::{SigningKey, signature_tag};
use jiff::{SignedDuration, Timestamp};
use testkit::images;
use testkit::images::shape::{self, Image};

use super::subset::entries;
use crate::kit::command::{assert_code, autonomy, publisher, seeding, text};
use crate::kit::route::Route;

const LAYERS: &[u64] = &[1000, 2000];
const PLATFORM: &[&str] = &["--platform", "linux/arm64"];

/// Two registries, a signed image in the first, and the keys of its publisher and of the site.
struct Site {
    route: Route,
    key: SigningKey,
}

impl Site {
    async fn new(image: Image, behaviour: Profile) -> Self {
        let route = Route::new(image, behaviour).await;
        let (publisher, key) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        for (name, key) in [("publisher", &publisher), ("site", &key)] {
            std::fs::write(route.home.path().join(format!("{name}.pub")), key.public_pem().unwrap()).unwrap();
        }
        std::fs::write(route.home.path().join("site.key"), key.to_encrypted_pem(b"secret").unwrap()).unwrap();
        let site = Self { route, key };
        site.sign(&publisher, "source", &site.route.root, Timestamp::now()).await;
        site.route.source.clear_log();
        site
    }

    /// Puts a signature over `node` at `at`, replacing all others.
    async fn sign(&self, key: &SigningKey, at: &str, node: &Descriptor, time: Timestamp) {
        let bed = if at == "source" { &self.route.source } else { &self.route.sink };
        let signed = simple_signing::legacy(&bed.repository("app"), &node.digest, Some(time));
        let signature = key.sign(&signed).unwrap();
        let signature = artifact::legacy_manifest(&[], &[(signed, signature)]);
        let store = publisher(bed, "app");
        for (blob, bytes) in signature.blobs {
            images::put(&store, blob.media_type, bytes).await;
        }
        let node_of_it = images::put(&store, signature.node.media_type, signature.manifest).await;
        images::tag(&store, &node_of_it, signature_tag(&node.digest).unwrap().as_str()).await;
    }

    fn file(&self, name: &str) -> String {
        self.route.path(name)
    }

    async fn seed(&self, platforms: &[&str]) -> Output {
        self.seed_as("publisher.pub", platforms).await
    }

    async fn seed_as(&self, publisher: &str, platforms: &[&str]) -> Output {
        let (publisher, site) = (self.file(publisher), self.file("site.key"));
        let flags = ["--rewrite-index", "--pub-key", &publisher, "--sign-key", &site];
        let mut command =
            seeding(&self.route.from(), &self.route.to(), &self.route.out(), &[&flags, platforms].concat());
        command.env("COSIGN_PASSWORD", "secret").output().await.unwrap()
    }

    async fn verify(&self, key: &str) -> Output {
        let (at, key) = (format!("{}/app:v1", self.route.sink.host()), self.file(key));
        autonomy(&["bundle", "verify", &at, "--pub-key", &key]).await
    }

    /// The manifest with the signatures over `node` at the destination.
    async fn signatures(&self, node: &Descriptor) -> Option<Manifest> {
        let name = Name::Tag(signature_tag(&node.digest).unwrap());
        let Root { node, bytes } = self.route.sink.layout("app").fetch(&name).await.ok()?;
        Some(Manifest::parse(&bytes, &node.media_type).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_index_is_signed_by_the_site_and_verified_with_its_key() {
    let mut digests = Vec::new();
    for behaviour in [Profile::default(), Profile::distribution_2(), Profile::distribution_3(), Profile::zot()] {
        let site = Site::new(shape::with_attestations(1, LAYERS), behaviour).await;
        let done = site.seed(PLATFORM).await;
        assert_code(&done, 0);
        let root = site.route.arrived("v1").await.unwrap();
        let index = root.manifest().unwrap();
        assert_eq!(index.manifests.len(), 2, "the image and its attestation");
        digests.push(root.node.digest);

        let record = site.route.record();
        assert_eq!(record["source_digest"], site.route.root.digest.to_string());
        assert_eq!(record["dest_digest"], root.node.digest.to_string());
        assert_eq!(record["signing_key_ref"], site.file("site.key"));
        assert_eq!(record["verified"], true);
        assert_eq!(record["platforms"], serde_json::json!(["linux/arm64/v8"]));
        let lock = std::fs::read_to_string(site.route.out().join("seed.lock")).unwrap();
        assert_eq!(lock, format!("{}/app@{}\n", site.route.sink.host(), root.node.digest));
        let says = format!(
            "rewritten  a smaller index in the place of {}, signed with {}",
            site.route.root.digest,
            site.file("site.key")
        );
        assert!(text(&done).contains(&says), "{}", text(&done));

        assert_code(&site.verify("site.pub").await, 0);
        assert_code(&site.verify("publisher.pub").await, 3);
        assert!(site.signatures(&site.route.root).await.is_none(), "the original's signature stays behind");

        let again = site.seed(PLATFORM).await;
        assert_code(&again, 0);
        assert!(text(&again).contains("unchanged"), "{}", text(&again));
        assert_eq!(site.signatures(&root.node).await.unwrap().layers.len(), 1, "no second signature");
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "one index everywhere: {digests:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_index_that_is_there_is_not_put_or_signed_again() {
    let site = Site::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&site.seed(&[PLATFORM, &["--accessories", "none"]].concat()).await, 0);
    site.route.source.clear_log();
    site.route.sink.clear_log();
    assert_code(&site.seed(&[PLATFORM, &["--accessories", "none"]].concat()).await, 0);
    // Index, signature and payload; the tag, and the same three from the destination.
    assert_eq!((site.route.source.requests(), site.route.sink.requests()), (3, 4), "{:#?}", site.route.sink.log());
    assert_eq!(site.route.sink.count(Kind::ManifestPut), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_has_grown_old_gets_a_fresh_one_beside_it() {
    let site = Site::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    assert_code(&site.seed(PLATFORM).await, 0);
    let root = site.route.arrived("v1").await.unwrap().node;
    site.sign(&site.key, "sink", &root, Timestamp::now() - SignedDuration::from_hours(9000)).await;
    assert_code(&site.verify("site.pub").await, 3);
    let done = site.seed(PLATFORM).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("seeded"), "{}", text(&done));
    assert_code(&site.verify("site.pub").await, 0);
    assert_eq!(site.signatures(&root).await.unwrap().layers.len(), 2, "what was there stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_site_does_not_sign_an_index_that_the_publisher_did_not_sign() {
    let site = Site::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let done = site.seed_as("site.pub", PLATFORM).await;
    assert_code(&done, 3);
    assert!(text(&done).contains("source verification failed (fail-closed)"), "{}", text(&done));
    assert_eq!(site.route.sink.requests(), 1, "the tag");
    assert!(site.route.tagged().await.is_none() && !site.route.out().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_indexes_are_rewritten_from_the_inside_out() {
    let site = Site::new(shape::nested_index(1, LAYERS), Profile::distribution_2()).await;
    for says in ["seeded", "unchanged"] {
        let done = site.seed(PLATFORM).await;
        assert_code(&done, 0);
        assert!(text(&done).contains(says), "{}", text(&done));
    }
    let root = site.route.arrived("v1").await.unwrap();
    let outer = root.manifest().unwrap();
    let [inner] = &outer.manifests[..] else { panic!("{outer:?}") };
    let bytes = read_manifest(&site.route.sink.layout("app"), inner).await.unwrap();
    let inner = Manifest::parse(&bytes, &inner.media_type).unwrap();
    assert_eq!(inner.manifests.len(), 1);
    assert_eq!(inner.platforms()[0].to_string(), "linux/arm64/v8");
}

#[tokio::test(flavor = "multi_thread")]
async fn accessories_of_platforms_are_copied_and_of_the_original_index_are_not() {
    for accessories in ["all", "root"] {
        let site = Site::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
        let store = publisher(&site.route.source, "app");
        let children = entries(&site.route.source, &site.route.root).await;
        let mut held = Vec::new();
        let mut attached = Vec::new();
        for (number, subject) in [&site.route.root, &children[0], &children[1]].into_iter().enumerate() {
            attached.push(images::sidecar(&store, subject, "application/example", &[b'0' + number as u8]).await);
        }
        assert_code(&site.seed(&[PLATFORM, &["--accessories", accessories]].concat()).await, 0);
        for node in &attached {
            held.push(site.route.sink.layout("app").contains(node).await.unwrap());
        }
        assert_eq!(held, [false, false, accessories == "all"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_verification_the_smaller_index_is_put_under_its_tag_unsigned() {
    let site = Site::new(shape::three_platforms(1, LAYERS), Profile::zot()).await;
    let done = site.route.seed(&[PLATFORM, &["--skip-verify", "--rewrite-index"]].concat()).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("NOT signed"), "{}", text(&done));
    let root = site.route.arrived("v1").await.unwrap();
    assert_ne!(root.node.digest, site.route.root.digest);
    assert!(site.signatures(&root.node).await.is_none());
    let record = site.route.record();
    assert_eq!((&record["verified"], &record["signing_key_ref"]), (&false.into(), &serde_json::Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_do_not_go_together_are_told_by_name_before_anybody_is_asked() {
    let site = Site::new(shape::three_platforms(1, LAYERS), Profile::default()).await;
    let (key, public) = (site.file("site.key"), site.file("publisher.pub"));
    let (sign, public) = (["--sign-key", &key], ["--pub-key", &public]);
    let (rewrite, skip) = (["--rewrite-index"], ["--skip-verify"]);
    let platform = ["--platform", "linux/arm64"];
    for (flags, says) in [
        ([&rewrite[..], &skip[..]].concat(), "--rewrite-index needs --platform"),
        ([&platform[..], &public[..], &sign[..]].concat(), "--sign-key needs --rewrite-index"),
        (
            [&platform[..], &rewrite[..], &public[..]].concat(),
            "--rewrite-index needs --sign-key with --pub-key, or --skip-verify",
        ),
        ([&platform[..], &rewrite[..], &sign[..]].concat(), "--sign-key needs --pub-key"),
        ([&platform[..], &rewrite[..], &skip[..], &sign[..]].concat(), "--sign-key cannot be used with --skip-verify"),
        (
            [&platform[..], &rewrite[..], &public[..], &sign[..], &["--copy-policy"][..]].concat(),
            "--copy-policy cannot be used with --rewrite-index",
        ),
        (
            [&platform[..], &rewrite[..], &skip[..], &["--transport", "skopeo"][..]].concat(),
            "--rewrite-index cannot be used with --transport skopeo",
        ),
    ] {
        let done = site.route.seed(&flags).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{says:?} in {}", text(&done));
    }
    assert_eq!((site.route.source.requests(), site.route.sink.requests()), (0, 0));
}
