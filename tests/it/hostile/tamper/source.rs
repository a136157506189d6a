//! Sources that refuse, hide and change content.

use autonomy_registry::oci::{Descriptor, Digest};
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::Listing as _;
use autonomy_registry::verify::signature_tag;

use super::End::{Broken, Refused};
use super::{FORMS, Form, Place, Row, Scene, each};

/// A fault for every GET of a manifest whose path contains `at`.
pub(super) fn manifest(at: impl Into<String>, what: What) -> Fault {
    Fault::always(Kind::ManifestGet, what).at(at)
}

pub(super) fn blob(at: &Digest, what: What) -> Fault {
    Fault::always(Kind::BlobGet, what).at(at.to_string())
}

pub(super) fn list(at: impl Into<String>, what: What) -> Fault {
    Fault::always(Kind::Referrers, what).at(at)
}

pub(super) fn tag(node: &Descriptor) -> String {
    signature_tag(&node.digest).unwrap().to_string()
}

/// The response for another manifest's path.
fn instead(name: &str) -> What {
    What::AnswerOf(format!("/v2/robot/manifests/{name}"))
}

pub(super) const FLIP: What = What::FlipBit { at: 3 };

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_does_not_answer_is_never_one_without_signatures() {
    let scene = Scene::new(Form::Legacy).await;
    let image = &scene.source.image;
    let content = scene.layer_of(&scene.lock).await;
    let rows: Vec<Row> = vec![
        ("500 on the image's .sig", manifest(tag(image), What::Status(500)), Broken),
        ("503 on the lock's .sig", manifest(tag(&scene.lock), What::Status(503)), Broken),
        ("502 on the policy's .sig", manifest(tag(&scene.policy), What::Status(502)), Broken),
        ("401 on the image's .sig", manifest(tag(image), What::Status(401)), Broken),
        ("403 on the lock's .sig", manifest(tag(&scene.lock), What::Status(403)), Broken),
        ("a dropped connection on the image's .sig", manifest(tag(image), What::ResetBefore), Broken),
        ("a portal's page for the image's .sig", manifest(tag(image), What::Html), Broken),
        ("503 on the lock", manifest("v1-lock", What::Status(503)), Broken),
        ("403 on the policy", manifest("v1-policy", What::Status(403)), Broken),
        ("503 on the list of referrers", list("", What::Status(503)), Broken),
        ("403 on the list of referrers", list("", What::Status(403)), Broken),
        ("503 on the lock's content", blob(&content, What::Status(503)), Broken),
    ];
    each(&scene, Place::Source, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_answers_otherwise_is_refused() {
    let scene = Scene::new(Form::Legacy).await;
    let (lock, policy) = (scene.layer_of(&scene.lock).await, scene.layer_of(&scene.policy).await);
    let other = What::Replace(br#"{"schemaVersion":2,"layers":[]}"#[..].into());
    const WRONG: super::End = Refused(&["SIDECAR_AMBIGUOUS", "SIDECAR_MISSING"]);
    let rows: Vec<Row> = vec![
        ("other bytes for the lock's content", blob(&lock, FLIP), Refused(&["BLOB_DIGEST"])),
        ("other bytes for the policy", blob(&policy, FLIP), Refused(&["BLOB_DIGEST"])),
        ("no policy behind its manifest", blob(&policy, What::Status(404)), Refused(&["SIDECAR_MISSING"])),
        ("the policy in the place of the lock", manifest("manifests/v1-lock", instead("v1-policy")), WRONG),
        ("the image in the place of the policy", manifest("manifests/v1-policy", instead("v1")), WRONG),
        ("another image under the tag", manifest("manifests/v1", instead("v0")), Refused(&["SIG_NOT_FOUND"])),
        ("other bytes for the image", manifest("manifests/v1", other), Broken),
    ];
    each(&scene, Place::Source, rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_alters_or_hides_a_signature_is_refused() {
    for form in FORMS {
        let scene = Scene::new(form).await;
        let rows = match form {
            Form::Legacy => legacy(&scene),
            Form::Bundle => bundle(&scene).await,
        };
        each(&scene, Place::Source, rows).await;
    }
}

fn legacy(scene: &Scene) -> Vec<Row> {
    let (image, policy) = (tag(&scene.source.image), tag(&scene.policy));
    let lock = instead(&tag(&scene.lock));
    vec![
        ("the lock's signature for the image", manifest(&image, lock), Refused(&["SIG_DIGEST_MISMATCH"])),
        ("no .sig of the policy", manifest(&policy, What::Status(404)), Refused(&["SIG_NOT_FOUND"])),
        ("other bytes for the .sig", manifest(&image, FLIP), Refused(&["BLOB_DIGEST"])),
        ("an index for the .sig", manifest(&image, instead("v1")), Refused(&["SIG_FORMAT"])),
    ]
}

async fn bundle(scene: &Scene) -> Vec<Row> {
    let (image, lock) = (scene.source.image.digest.hex(), scene.lock.digest.hex());
    let hide = || What::Hide("sigstore.bundle".into());
    let listed = scene.source.bed.layout("robot").referrers(&scene.source.image.digest).await.unwrap();
    let is_bundle =
        |node: &&Descriptor| node.artifact_type.as_ref().is_some_and(|kind| kind.as_str().contains("sigstore"));
    let bundle = listed.iter().find(is_bundle).unwrap();
    let (content, bundle) = (scene.layer_of(bundle).await, bundle.digest.hex());
    let locks = What::AnswerOf(format!("/v2/robot/referrers/{}", scene.lock.digest));
    vec![
        ("a list without the bundle", list(&image, hide()), Refused(&["SIG_NOT_FOUND"])),
        ("a list without the lock's bundle", list(&lock, hide()), Refused(&["SIG_NOT_FOUND"])),
        ("the lock's list for the image", list(&image, locks), Refused(&["SIG_NOT_FOUND", "SIDECAR_AMBIGUOUS"])),
        ("no bundle behind its entry", manifest(&bundle, What::Status(404)), Refused(&["SIG_NOT_FOUND"])),
        ("other bytes for the bundle's manifest", manifest(&bundle, FLIP), Refused(&["BLOB_DIGEST"])),
        ("other bytes for the bundle", blob(&content, FLIP), Refused(&["BLOB_DIGEST"])),
        ("503 on the bundle's manifest", manifest(&bundle, What::Status(503)), Broken),
        ("503 on the bundle", blob(&content, What::Status(503)), Broken),
    ]
}
