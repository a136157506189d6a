//! Hints that depend on a registry's answer: the tags that are there, and the user who asked.

use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::serve::{Profile, ServerAuth};
use base64::Engine as _;
use testkit::images::shape;

use crate::kit::command::{assert_code, autonomy, program, publisher, seed, text};

/// A registry with `app` under some tags.
async fn with_tags(tags: &[&str]) -> Testbed {
    let bed = Testbed::start().await;
    let tags: Vec<_> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    shape::single_manifest(1, &[100]).put(&publisher(&bed, "app"), &tags).await;
    bed.clear_log();
    bed
}

#[tokio::test]
async fn a_wrong_tag_is_answered_with_the_tags_that_are_there_for_one_more_request() {
    let (source, sink) = (with_tags(&["v1.2.3", "v1.2.4", "latest"]).await, Testbed::start().await);
    let out = tempfile::tempdir().unwrap();
    let from = format!("{}/app:V1.2.3", source.host());
    let done = seed(&from, &format!("{}/app:v1", sink.host()), out.path(), &["--skip-verify"]).await;
    assert_code(&done, 4);
    let hint = "hint: did you mean v1.2.3? the repository has the tags v1.2.3, v1.2.4, latest";
    assert!(text(&done).contains(hint), "{}", text(&done));
    assert_eq!((source.count(Kind::Tags), source.count(Kind::ManifestGet)), (1, 1));

    source.clear_log();
    let keys = out.path().to_str().unwrap();
    let made = program(&["bundle", "keygen", "--out", keys]).env("COSIGN_PASSWORD", "").output().await.unwrap();
    assert_code(&made, 0);
    let done = autonomy(&["bundle", "verify", &from, "--pub-key", &format!("{keys}/cosign.pub")]).await;
    assert!(text(&done).contains("did you mean v1.2.3?"), "{}", text(&done));
    assert_eq!(source.count(Kind::Tags), 1);
}

#[tokio::test]
async fn a_list_of_tags_that_cannot_be_had_changes_nothing_and_is_asked_for_once() {
    let sink = Testbed::start().await;
    for what in [What::Status(500), What::Status(403), What::ResetBefore, What::Html] {
        let source = with_tags(&["v1"]).await;
        source.fault(Fault::always(Kind::Tags, what.clone()));
        let out = tempfile::tempdir().unwrap();
        let from = format!("{}/app:v2", source.host());
        let done = seed(&from, &format!("{}/app:v1", sink.host()), out.path(), &["--skip-verify"]).await;
        assert_code(&done, 4);
        let told = text(&done);
        assert!(told.contains("404 not found") && told.contains("hint: check the repository and the tag"), "{told}");
        assert_eq!(source.count(Kind::Tags), 1, "{what:?}");
    }
}

#[tokio::test]
async fn a_tag_that_is_there_costs_no_list() {
    let (source, sink) = (with_tags(&["v1"]).await, Testbed::start().await);
    let out = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
    let flags = ["--skip-verify", "--accessories", "none"];
    assert_code(&seed(&from, &to, out.path(), &flags).await, 0);
    assert_eq!(source.count(Kind::Tags), 0);
}

#[tokio::test]
async fn a_refusal_names_the_user_who_asked_or_says_that_nobody_was_logged_in() {
    let out = tempfile::tempdir().unwrap();
    let login = ServerAuth::Basic { user: "ann".into(), password: "secret".into() };
    let beds = [Testbed::start().await, Testbed::with(Profile { auth: login, ..Profile::default() }).await];
    let authfile = out.path().join("auth.json");
    let packed = base64::engine::general_purpose::STANDARD.encode("ann:secret");
    let entry = serde_json::json!({"auths": {beds[1].host(): {"auth": packed}}});
    std::fs::write(&authfile, entry.to_string()).unwrap();
    let place = authfile.to_str().unwrap();
    let as_ann = format!("asked as ann, whose login comes from {place}: change the user's rights in the registry");
    // The second registry asks for a login at first.
    let expected = [("asked without a login, and the registry wanted none", 1), (&*as_ann, 2)];
    for (bed, (expected, from)) in beds.iter().zip(expected) {
        bed.fault(Fault::always(Kind::ManifestGet, What::Status(403)).from_the(from));
        let reference = format!("{}/app:v1", bed.host());
        let flags = ["--skip-verify", "--authfile", place];
        let done = seed(&reference, "127.0.0.1:1/app:v1", &out.path().join("record"), &flags).await;
        assert_code(&done, 4);
        let told = text(&done);
        assert!(told.contains("403 forbidden") && told.contains(expected) && !told.contains("secret"), "{told}");
    }
}
