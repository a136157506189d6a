//! Signature lists that are long, damaged, or written by several clients at once.

use std::time::Duration;

use autonomy_registry::oci::{Descriptor, Digest, MediaType, Name};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::Store;
use autonomy_registry::trust::{artifact, simple_signing};
use autonomy_registry::verify::{MAX_SIGNATURES, SigningKey};
use testkit::images;

use super::field::{Field, behaviours, cosign_tag};
use crate::kit::command::{self, assert_code, autonomy, publisher, text};

/// A list of unknown signatures with unique payloads.
async fn strangers(store: &dyn Store, texts: &[String]) -> Vec<Descriptor> {
    let mut nodes = Vec::new();
    for text in texts {
        let mut node = images::put(store, MediaType::new(simple_signing::MEDIA_TYPE), text.clone()).await;
        node.annotations.insert(simple_signing::SIGNATURE.into(), "QUJD".into());
        nodes.push(node);
    }
    nodes
}

async fn put(store: &dyn Store, layers: &[Descriptor], tag: &str) {
    let attachment = artifact::legacy_manifest(layers, &[]);
    for (node, bytes) in attachment.blobs {
        images::put(store, node.media_type, bytes).await;
    }
    let node = images::put(store, MediaType::OCI_MANIFEST, attachment.manifest).await;
    images::tag(store, &node, tag).await;
}

async fn layers(bed: &Testbed, tag: &str) -> Vec<Descriptor> {
    let name = Name::Tag(tag.parse().unwrap());
    let root = bed.layout("app").fetch(&name).await.unwrap();
    root.manifest().unwrap().layers
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("the site's {number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_signature_of_the_site_is_lost_however_many_there_are_and_the_image_verifies() {
    for count in [MAX_SIGNATURES, MAX_SIGNATURES + 50] {
        let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
        let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
        images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
        let own = strangers(&sink, &numbered(count)).await;
        put(&sink, &own, &at).await;
        let key = field.path("cosign.pub");
        let key = ["--pub-key", key.to_str().unwrap()];
        let done = field.seed(&key).await;
        assert_code(&done, 0);
        let held = layers(&field.sink, &at).await;
        assert!(own.iter().all(|layer| held.contains(layer)), "all of theirs");
        assert_eq!(held.len(), count + 1);
        assert!(!text(&done).contains("no room"), "{}", text(&done));
        let judged = autonomy(&[&["bundle", "verify", &field.to()][..], &key].concat()).await;
        assert_code(&judged, 0);
        field.sink.clear_log();
        assert_code(&field.seed(&key).await, 0);
        assert_eq!(field.sink.count(Kind::ManifestPut), 0, "what is in order stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_behind_more_than_are_read_is_brought_forward() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
    images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
    let ours = layers(&field.source, &at).await.remove(0);
    let mut own = strangers(&sink, &numbered(MAX_SIGNATURES)).await;
    field.signature_at(&sink, 0).await;
    own.push(ours.clone());
    put(&sink, &own, &at).await;
    let key = field.path("cosign.pub");
    assert_code(&field.seed(&["--pub-key", key.to_str().unwrap()]).await, 0);
    let held = layers(&field.sink, &at).await;
    assert_eq!((held.len(), held.iter().position(|layer| *layer == ours)), (own.len(), Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_payload_was_lost_at_the_destination_is_merged_without_it() {
    for (name, behaviour) in behaviours() {
        let field = Field::bare(Profile::default(), behaviour).await;
        let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
        images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
        put(&sink, &strangers(&sink, &["kept".into(), "gone".into()]).await, &at).await;
        let gone = Digest::sha256(b"gone");
        std::fs::remove_file(field.sink.layout("app").folder().join("blobs/sha256").join(gone.hex())).unwrap();
        let key = field.path("cosign.pub");
        let done = field.seed(&["--pub-key", key.to_str().unwrap()]).await;
        assert_code(&done, 0);
        let held = layers(&field.sink, &at).await;
        assert!(held.len() == 2 && held.iter().all(|layer| layer.digest != gone), "{name}: {held:?}");
        assert!(text(&done).contains("does not hold any more"), "{name}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_payloads_cannot_be_asked_for_is_kept_whole() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
    images::tag(&field.store(), &field.signature(&[0]).await, &at).await;
    put(&sink, &strangers(&sink, &["own".into()]).await, &at).await;
    field.sink.fault(Fault::always(Kind::BlobHead, What::Status(403)));
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    assert_eq!(layers(&field.sink, &at).await.len(), 2);
}

/// `bundle seal` with a key of its own.
async fn seal(field: &Field, number: usize) -> std::process::Output {
    let key = field.path(&format!("{number}.key"));
    let made = SigningKey::generate().unwrap();
    std::fs::write(&key, made.to_encrypted_pem(b"").unwrap()).unwrap();
    command::seal(&field.to(), &key, "", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_comes_while_an_image_is_sealed_is_kept() {
    for (name, behaviour) in behaviours() {
        let field = Field::bare(Profile::default(), behaviour).await;
        assert_code(&field.seed(&["--skip-verify"]).await, 0);
        let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
        let rivals = strangers(&sink, &["somebody else's".into()]).await;
        field.sink.clear_log();
        field.sink.fault(Fault::next(Kind::UploadPost, What::Delay(Duration::from_millis(300))));
        let writing = async {
            while field.sink.count(Kind::UploadPost) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let layout = field.sink.layout("app");
            put(&layout, &rivals, &at).await;
        };
        let (done, ()) = tokio::join!(seal(&field, 1), writing);
        assert_code(&done, 0);
        let held = layers(&field.sink, &at).await;
        assert!(held.len() == 2 && held.contains(&rivals[0]), "{name}: {held:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_overwritten_while_an_image_is_sealed_is_put_again() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
    let rivals = strangers(&sink, &["somebody else's".into()]).await;
    field.sink.clear_log();
    let overwriting = async {
        while super::field::tag(&field.sink, &at).await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        put(&field.sink.layout("app"), &rivals, &at).await;
    };
    let (done, ()) = tokio::join!(seal(&field, 1), overwriting);
    assert_code(&done, 0);
    let held = layers(&field.sink, &at).await;
    assert!(held.len() == 2 && held.contains(&rivals[0]), "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seals_at_once_lose_no_signature() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let (first, second) = tokio::join!(seal(&field, 1), seal(&field, 2));
    assert_code(&first, 0);
    assert_code(&second, 0);
    assert_eq!(layers(&field.sink, &cosign_tag(&field.root.digest, ".sig")).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_keeps_what_stands_there_and_never_overwrites_what_is_no_list() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    let (sink, at) = (publisher(&field.sink, "app"), cosign_tag(&field.root.digest, ".sig"));
    let own = strangers(&sink, &numbered(MAX_SIGNATURES + 20)).await;
    put(&sink, &own, &at).await;
    assert_code(&seal(&field, 1).await, 0);
    let held = layers(&field.sink, &at).await;
    assert!(own.iter().all(|layer| held.contains(layer)) && held.len() == own.len() + 1, "{}", held.len());

    images::tag(&sink, &field.children[0], &at).await;
    let done = seal(&field, 2).await;
    assert_ne!(done.status.code(), Some(0), "{}", text(&done));
    assert_eq!(super::field::tag(&field.sink, &at).await, Some(field.children[0].digest));
}
