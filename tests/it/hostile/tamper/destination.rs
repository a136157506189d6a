//! Destinations that change, hide or withhold received content, between the copy and the check.

use autonomy_registry::oci::{Descriptor, Name};
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::{Listing as _, Store as _};

use super::End::{Broken, Either, Refused};
use super::source::{FLIP, blob, list, manifest, tag};
use super::{FORMS, Form, Place, Row, Scene, each};

/// A manifest of the source, served in another's place.
async fn serve(scene: &Scene, node: &Descriptor) -> What {
    let root = scene.source.bed.layout("robot").fetch(&Name::Digest(node.digest)).await.unwrap();
    What::Serve { media_type: "application/vnd.oci.image.manifest.v1+json", bytes: root.bytes }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_alters_what_it_was_given_never_gets_the_tag() {
    let scene = Scene::new(Form::Legacy).await;
    let (lock, policy) = (scene.layer_of(&scene.lock).await, scene.layer_of(&scene.policy).await);
    let (image, lock_hex) = (scene.source.image.digest.to_string(), scene.lock.digest.to_string());
    let another = serve(&scene, &scene.policy).await;
    const GONE: super::End = Refused(&["SIDECAR_MISSING"]);
    const DAMAGED: super::End = Refused(&["BLOB_DIGEST"]);
    let rows: Vec<Row> = vec![
        ("other bytes for the image", manifest(&image, FLIP), Broken),
        ("another manifest for the image", manifest(&image, another.clone()), Broken),
        ("no image", manifest(&image, What::Status(404)), Broken),
        ("403 on the image", manifest(&image, What::Status(403)), Broken),
        ("a portal's page for the image", manifest(&image, What::Html), Broken),
        ("no lock", manifest(&lock_hex, What::Status(404)), GONE),
        ("another manifest for the lock", manifest(&lock_hex, another), Broken),
        ("other bytes for the lock's content", blob(&lock, FLIP), DAMAGED),
        ("other bytes for the policy", blob(&policy, FLIP), DAMAGED),
        ("fewer bytes for the policy", blob(&policy, What::Truncate { to: 20 }), DAMAGED),
        ("no policy behind its manifest", blob(&policy, What::Status(404)), GONE),
        ("403 on the policy", blob(&policy, What::Status(403)), Broken),
    ];
    each(&scene, Place::Destination, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_alters_or_hides_a_signature_never_gets_the_tag() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let rows = match form {
            Form::Legacy => legacy(&scene).await,
            Form::Bundle => bundle(&scene).await,
        };
        each(&scene, Place::Destination, rows).await;
    }
}

async fn legacy(scene: &Scene) -> Vec<Row> {
    let signature = scene.sign(&scene.source.image).await;
    let content = scene.layer_of(&signature).await;
    let locks = serve(scene, &scene.sign(&scene.lock).await).await;
    let (image, policy) = (tag(&scene.source.image), tag(&scene.policy));
    vec![
        ("no .sig of the image", manifest(&image, What::Status(404)), Refused(&["SIG_NOT_FOUND"])),
        ("no .sig of the policy", manifest(&policy, What::Status(404)), Refused(&["SIG_NOT_FOUND"])),
        ("other bytes for the .sig", manifest(&image, FLIP), Refused(&["BLOB_DIGEST"])),
        ("the lock's signature for the image", manifest(&image, locks), Refused(&["SIG_DIGEST_MISMATCH"])),
        ("403 on the .sig", manifest(&image, What::Status(403)), Broken),
        ("503 on the .sig", manifest(&image, What::Status(503)), Broken),
        ("other bytes for what was signed", blob(&content, FLIP), Refused(&["BLOB_DIGEST"])),
        ("nothing behind the signature", blob(&content, What::Status(404)), Refused(&["SIG_NOT_FOUND"])),
    ]
}

async fn bundle(scene: &Scene) -> Vec<Row> {
    let signature = scene.sign(&scene.source.image).await;
    let (content, signature) = (scene.layer_of(&signature).await, signature.digest.to_string());
    let (image, policy) = (scene.source.image.digest.to_string(), scene.policy.digest.to_string());
    let hide = || What::Hide("sigstore.bundle".into());
    assert!(!scene.source.bed.layout("robot").referrers(&scene.policy.digest).await.unwrap().is_empty());
    vec![
        ("a list without the image's bundle", list(&image, hide()), Refused(&["SIG_NOT_FOUND"])),
        ("a list without the policy's bundle", list(&policy, hide()), Refused(&["SIG_NOT_FOUND"])),
        ("403 on the list", list(&image, What::Status(403)), Broken),
        ("503 on the list", list(&image, What::Status(503)), Broken),
        ("no bundle behind its entry", manifest(&signature, What::Status(404)), Refused(&["SIG_NOT_FOUND"])),
        ("other bytes for the bundle's manifest", manifest(&signature, FLIP), Refused(&["BLOB_DIGEST"])),
        ("other bytes for the bundle", blob(&content, FLIP), Refused(&["BLOB_DIGEST"])),
        ("403 on the bundle", blob(&content, What::Status(403)), Broken),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_honest_about_the_image_may_still_lie_about_the_rest() {
    let scene = Scene::new(Form::Legacy).await;
    for (what, on, nth) in [
        ("every manifest after the first", Kind::ManifestGet, 2),
        ("every manifest after the second", Kind::ManifestGet, 3),
        ("every manifest after the third", Kind::ManifestGet, 4),
        ("every blob after the first", Kind::BlobGet, 2),
        ("every blob after the third", Kind::BlobGet, 4),
    ] {
        for repository in ["/v2/fresh/", "/v2/held/"] {
            scene.sink.fault(Fault { nth, ..Fault::always(on, FLIP) }.at(repository));
        }
        let end = Either(&["BLOB_DIGEST"]);
        scene.refused(what, Place::Destination, end).await;
        scene.heal();
    }
}
