//! Destinations that answer 401 or 403 for missing content, as GHCR, GitLab and ECR do.

use std::process::Output;

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::verify::SigningKey;
use serde_json::Value;
use testkit::images;

use super::field::{Field, TYPES, artifact, artifact_of, behaviours, tag};
use crate::kit::command::{assert_code, publisher, seal, seeding, text};

const WORDS: &str = "taken for absent";

/// Refuses requests for missing content from now on.
fn hide(field: &Field, status: u16) {
    for on in [Kind::ManifestHead, Kind::ManifestGet] {
        field.sink.fault(Fault::always(on, What::RefuseAbsent(status)));
    }
}

fn record(field: &Field) -> String {
    std::fs::read_to_string(field.path("out/seed-manifest.json")).unwrap()
}

async fn signed(field: &Field, more: &[&str]) -> Output {
    let key = field.path("cosign.pub");
    field.seed(&[&["--pub-key", key.to_str().unwrap()], more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_hides_what_is_absent_gets_everything_with_or_without_the_referrers_api() {
    for (name, behaviour) in behaviours() {
        for status in [401, 403] {
            let field = Field::between(Profile::default(), behaviour.clone()).await;
            hide(&field, status);
            assert_code(&signed(&field, &[]).await, 0);
            field.sink.heal();
            let (root, child) = (&field.of_the_root, &field.of_a_child);
            field.assert_arrived(&[&root.0[..], &child.0].concat(), &[&root.1[..], &child.1].concat()).await;
            assert!(record(&field).contains(WORDS), "{name} {status}: {}", record(&field));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fallback_index_that_is_not_shown_once_it_is_there_ends_the_run() {
    let field = Field::bare(Profile::default(), Profile::distribution_3()).await;
    artifact(&field.store(), "a note", Some(&field.root)).await;
    let fallback = field.root.digest.fallback_tag();
    field.sink.fault(Fault::always(Kind::ManifestGet, What::Status(403)).at_the_end(format!("/{fallback}")));
    let done = field.seed(&["--skip-verify"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("its index was taken, and is not shown"), "{}", text(&done));
    let puts = field.sink.log();
    let puts = puts.iter().filter(|seen| seen.method == "PUT" && seen.path.ends_with(&fallback)).count();
    assert_eq!(puts, 1, "and is not put again and again");
    field.assert_nothing(&done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_keeps_former_roots_takes_a_refused_fallback_tag_for_what_it_is() {
    let field = Field::bare(Profile::default(), Profile::distribution_3()).await;
    artifact(&field.store(), "a note", Some(&field.root)).await;
    let fallback = field.root.digest.fallback_tag();
    field.sink.fault(Fault::always(Kind::ManifestGet, What::RefuseAbsent(403)).at_the_end(format!("/{fallback}")));
    let done = field.seed(&["--skip-verify", "--keep-previous"]).await;
    assert_code(&done, 4);
    assert_eq!(tag(&field.sink, "v1").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_refusal_proves_nothing_of_a_list_that_was_lost() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    let (lost, _) = field.of_the_root.0.iter().find(|(tag, _)| tag.ends_with(".att")).unwrap();
    // The registry takes the PUT and then answers as if the tag were missing.
    field.sink.fault(Fault::always(Kind::ManifestHead, What::Status(404)).at_the_end(format!("/{lost}")));
    hide(&field, 403);
    let done = field.seed(&["--skip-verify"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("was put and is not listed"), "{}", text(&done));
}

/// `registry seed --rewrite-index --sign-key` of one of the two platforms.
async fn rewritten(field: &Field) -> Output {
    let key = SigningKey::generate().unwrap();
    std::fs::write(field.path("site.key"), key.to_encrypted_pem(b"").unwrap()).unwrap();
    let (from, to) = (format!("{}/app:v1", field.source.host()), field.to());
    let flags = ["--rewrite-index", "--platform", "linux/amd64", "--accessories", "none", "--pub-key"];
    let mut command = seeding(&from, &to, &field.path("out"), &flags);
    command.arg(field.path("cosign.pub")).arg("--sign-key").arg(field.path("site.key"));
    command.env("COSIGN_PASSWORD", "").output().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_the_site_signs_itself_gets_its_signature_where_absent_tags_are_hidden() {
    for (name, behaviour) in behaviours() {
        let field = Field::between(Profile::default(), behaviour).await;
        hide(&field, 403);
        assert_code(&rewritten(&field).await, 0);
        assert!(record(&field).contains(WORDS), "{name}: {}", record(&field));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_put_where_the_registry_hides_that_there_is_none() {
    let field = Field::bare(Profile::default(), Profile::distribution_2()).await;
    assert_code(&field.seed(&["--skip-verify"]).await, 0);
    hide(&field, 403);
    std::fs::write(field.path("cosign.key"), SigningKey::generate().unwrap().to_encrypted_pem(b"").unwrap()).unwrap();
    for format in ["legacy", "bundle"] {
        let done = seal(&field.to(), &field.path("cosign.key"), "", &["--format", format]).await;
        assert_code(&done, 0);
        assert!(text(&done).contains(WORDS), "{format}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_that_refusals_were_taken_for_absence() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    for on in [Kind::ManifestHead, Kind::ManifestGet, Kind::BlobHead, Kind::UploadPost, Kind::ManifestPut] {
        field.sink.fault(Fault::always(on, What::Status(403)));
    }
    let done = field.seed(&["--skip-verify", "--dry-run", "--output", "json"]).await;
    assert_code(&done, 0);
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let weakened = told["images"][0]["weakened"].to_string();
    assert!(weakened.contains(WORDS), "{told:#}");
    assert!(String::from_utf8_lossy(&done.stderr).contains(WORDS), "{}", text(&done));
    let human = field.seed(&["--skip-verify", "--dry-run", "--progress", "none"]).await;
    assert!(String::from_utf8_lossy(&human.stderr).contains(WORDS), "{}", text(&human));
    // And no such warning where nothing was refused.
    field.sink.heal();
    let done = field.seed(&["--skip-verify", "--dry-run", "--output", "json"]).await;
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(told["images"][0].get("weakened").is_none() && !text(&done).contains(WORDS), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_none_hides_no_warning_and_quiet_does() {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let image: &Descriptor = &field.children[0];
    images::tag(&field.store(), image, &super::field::cosign_tag(&field.root.digest, ".sig")).await;
    assert_eq!(image.media_type, MediaType::OCI_MANIFEST);
    for (flags, count) in [(&["--progress", "none"][..], 1), (&["--quiet"], 0)] {
        let done = field.seed(&[&["--skip-verify"], flags].concat()).await;
        assert_code(&done, 0);
        let told = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(told.matches("it is left out").count(), count, "{flags:?}: {told}");
        assert!(!told.contains("copying"), "no progress: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_named_and_refused_is_never_taken_for_absent() {
    let field = Field::between(Profile::default(), Profile::default()).await;
    let (name, _) = field.of_the_root.0.iter().find(|(tag, _)| tag.ends_with(".att")).unwrap().clone();
    let sink = publisher(&field.sink, "app");
    let own = artifact_of(&sink, TYPES[1].1, "the site's", None).await;
    field.sink.clear_log();
    // The list appears while the image is copied, and only HEAD shows it.
    field.sink.fault(Fault::always(Kind::ManifestGet, What::Status(403)).at_the_end(format!("/{name}")));
    field.sink.fault(Fault::next(Kind::UploadPost, What::Delay(std::time::Duration::from_millis(300))));
    let writing = async {
        while field.sink.count(Kind::UploadPost) < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        images::tag(&field.sink.layout("app"), &own, &name).await;
    };
    let (done, ()) = tokio::join!(field.seed(&["--skip-verify"]), writing);
    assert_code(&done, 4);
    assert_eq!(tag(&field.sink, &name).await, Some(own.digest), "{}", text(&done));
}
