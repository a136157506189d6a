//! Referrers lists that are wrong, by mistake or on purpose. A fallback index is a tag that anyone may write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use autonomy_registry::oci::{Descriptor, MediaType};
use autonomy_registry::serve::Profile;
use serde_json::{Value, json};

use super::field::{Field, artifact, mirror, reference, referrers};
use crate::kit::command::{assert_code, text};
use crate::kit::resident::{MAX_RESIDENT, seed_anew};
use crate::kit::wire_server::answer;

/// A source whose referrers list of the root has these `entries`; the rest is correct.
async fn lying(field: &Field, entries: Value) -> crate::kit::wire_server::Server {
    let (list, path) = (referrers(&entries), format!("/referrers/{}", field.root.digest));
    mirror(&field.source, move |asked| asked.line.contains(&path).then(|| answer(200, &[], list.clone()))).await
}

async fn field() -> (Field, Descriptor) {
    let field = Field::bare(Profile::default(), Profile::default()).await;
    let note = artifact(&field.store(), "a note", Some(&field.root)).await;
    (field, note)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_manifest_that_is_no_referrer_is_named_and_left_out() {
    let (field, note) = field().await;
    let absent = Descriptor::of(MediaType::OCI_MANIFEST, b"nowhere");
    let unattached = artifact(&field.store(), "attached to nothing", None).await;
    let elsewhere = artifact(&field.store(), "attached to something else", Some(&unattached)).await;
    let own = artifact(&field.store(), "a note on what is attached to something else", Some(&elsewhere)).await;
    for (strange, says) in [
        (&absent, "and is not there"),
        (&unattached, "and does not say so itself"),
        (&elsewhere, "and does not say so itself"),
        // The image itself, and a part of it.
        (&field.root, "and does not say so itself"),
        (&field.children[0], "and does not say so itself"),
    ] {
        let source = lying(&field, json!([strange, reference(&note)])).await;
        let done = field.seed_from(&source.host, &["--skip-verify", "--deep"]).await;
        assert_code(&done, 0);
        let warning = format!("{} is listed as attached to {}, {says}", strange.digest, field.root.digest);
        assert!(text(&done).contains(&warning), "{warning}: {}", text(&done));
        field.assert_arrived(&[], &[(field.root.digest, note.clone())]).await;
    }
    assert!(own.size > 0, "it hangs on what does not travel, and did not travel either");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_circle_of_referrers_ends() {
    let (field, note) = field().await;
    let other = artifact(&field.store(), "another note", Some(&field.root)).await;
    let (of_root, of_note, of_other) =
        (json!([reference(&note), reference(&other)]), json!([other, note]), json!([note]));
    let lists = [(field.root.digest, of_root), (note.digest, of_note), (other.digest, of_other)];
    let lists = lists.map(|(subject, entries)| (format!("/referrers/{subject}"), referrers(&entries)));
    let source = mirror(&field.source, move |asked| {
        let list = lists.iter().find(|(path, _)| asked.line.contains(path.as_str()));
        list.map(|(_, list)| answer(200, &[], list.clone()))
    })
    .await;
    let done = field.seed_from(&source.host, &["--skip-verify"]).await;
    assert_code(&done, 0);
    let root = field.root.digest;
    field.assert_arrived(&[], &[(root, note.clone()), (root, other.clone())]).await;
    assert_eq!(text(&done).matches("does not say so itself").count(), 3, "{}", text(&done));
    let asked = source.lines().iter().filter(|line| line.contains("/referrers/")).count();
    assert_eq!(asked, 5, "the image's three manifests and the two notes, once each");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifest_is_believed_and_not_what_the_list_says_of_it() {
    let evil = "\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}";
    let changes = [
        ("mediaType", json!("application/octet-stream")),
        ("mediaType", json!("application/vnd.oci.image.layer.v1.tar")),
        ("mediaType", json!("application/vnd.oci.image.index.v1+json")),
        ("mediaType", json!(evil)),
        ("mediaType", json!("x".repeat(1 << 20))),
        ("mediaType", Value::Null),
        ("size", json!(0)),
        ("size", json!(1)),
        ("size", json!(1_u64 << 62)),
        ("size", json!(u64::MAX)),
        ("data", json!("bm90IGl0")),
        ("urls", json!(["http://127.0.0.1:1/x"])),
        ("artifactType", json!(evil)),
        ("annotations", json!({evil: evil})),
        ("platform", json!({"os": evil, "architecture": evil})),
    ];
    for (name, value) in changes {
        let (field, note) = field().await;
        let second = artifact(&field.store(), "another note", Some(&field.root)).await;
        let entries = [&note, &second].map(|node| {
            let mut entry = reference(node);
            entry[name] = value.clone();
            entry
        });
        let source = lying(&field, json!(entries)).await;
        let done = field.seed_from(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 0);
        let root = field.root.digest;
        field.assert_arrived(&[], &[(root, note), (root, second)]).await;
        let said = text(&done);
        let is_tame = |c: char| !c.is_control() || c == '\n';
        assert!(said.chars().all(is_tame) && !said.contains('\u{202e}'), "{name}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_ten_thousand_referrers_end_the_run() {
    let (field, _) = field().await;
    let entry = |number: u32| json!(Descriptor::of(MediaType::OCI_MANIFEST, &number.to_be_bytes()));
    let entries: Vec<_> = (0..10_001).map(entry).collect();
    for entries in [json!(entries), json!(vec![entries[0].clone(); 10_001])] {
        let source = lying(&field, entries).await;
        let done = field.seed_from(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("more than 10000"), "{}", text(&done));
        field.assert_nothing(&done).await;
        let asked = source.lines().len();
        assert!(asked < 20, "{asked} requests");
    }
}

/// A list of eight missing manifests, made unique by `number`: as long as a list may be, in text or in values.
fn long_list(number: u64, is_text: bool) -> String {
    let entries = (0..8).map(|entry| {
        let node = Descriptor::of(MediaType::OCI_MANIFEST, format!("{number} {entry}").as_bytes());
        let values = || (0..6_000).map(|key| (format!("{key:x}"), json!(""))).collect();
        let mut node = reference(&node);
        node["annotations"] = if is_text { json!({"": "x".repeat(250_000)}) } else { Value::Object(values()) };
        node
    });
    referrers(&entries.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_do_not_fill_the_memory() {
    for is_text in [true, false] {
        let (field, _) = field().await;
        let count = Arc::new(AtomicU64::new(0));
        // Every referrer has eight more.
        let source = mirror(&field.source, move |asked| {
            let number = asked.line.contains("/referrers/").then(|| count.fetch_add(1, Ordering::Relaxed))?;
            (number < 40).then(|| answer(200, &[], long_list(number, is_text)))
        })
        .await;
        let (done, resident) = seed_anew(&source.host, &["--skip-verify"]).await;
        assert_code(&done, 0);
        assert_eq!(text(&done).matches("and is not there").count(), 320);
        assert!(resident < MAX_RESIDENT, "text: {is_text}: {resident} bytes");
    }
}
