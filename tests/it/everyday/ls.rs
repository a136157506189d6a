//! `registry ls`: names, order, requests, and the images behind tags.

use autonomy_registry::oci::{Descriptor, MediaType, Tag};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Body, Store as _};
use testkit::images::{self, shape};

use super::{assert_screen, registry, requests};
use crate::kit::bundle_bed::report;
use crate::kit::command::{assert_code, autonomy, publisher, text};
use crate::kit::wire_server::{Server, answer, status};

/// Puts one small index under many tags at once.
async fn tagged(bed: &Testbed, tags: &[String]) -> Descriptor {
    let bytes = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let node = Descriptor::of(MediaType::OCI_INDEX, bytes.as_bytes());
    let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
    bed.layout("app").put(&node, &Body::bytes(node.clone(), bytes), &tags).await.unwrap();
    node
}

fn lines(done: &std::process::Output) -> Vec<&str> {
    std::str::from_utf8(&done.stdout).unwrap().lines().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_tags_cost_one_request_and_more_one_each_thousand() {
    for (count, expected) in [(1_000, 1), (2_500, 3)] {
        let bed = Testbed::start().await;
        let tags: Vec<_> = (0..count).map(|number| format!("v1.{number}.0")).collect();
        tagged(&bed, &tags).await;
        let done = registry(&["ls", &format!("{}/app", bed.host())]).await;
        assert_code(&done, 0);
        assert_eq!(lines(&done), tags, "in the order of their numbers");
        assert_eq!((bed.count(Kind::Tags), bed.requests()), (expected, expected));
        assert_eq!(bed.log()[0].query, "n=1000");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_refuses_the_length_of_a_page_is_asked_without_it() {
    let bed = Testbed::start().await;
    tagged(&bed, &["v1".to_owned()]).await;
    bed.fault(Fault::always(Kind::Tags, What::Status(400)).at("n=1000"));
    let done = registry(&["ls", &format!("{}/app", bed.host())]).await;
    assert_code(&done, 0);
    assert_eq!((lines(&done), bed.count(Kind::Tags)), (vec!["v1"], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_alone_lists_its_repositories_with_their_tags_on_request() {
    let bed = Testbed::start().await;
    for (path, tags) in [("fleet/nav", &["v1", "v2"][..]), ("app", &["latest"])] {
        let image = images::two_platforms(&publisher(&bed, path), 1, &[10]).await;
        for tag in tags {
            images::tag(&publisher(&bed, path), &image, tag).await;
        }
    }
    bed.clear_log();
    let done = registry(&["ls", bed.host()]).await;
    assert_screen(&done, bed.host(), "app\nfleet/nav\n");
    assert_eq!(requests(&bed), ["GET /v2/_catalog"]);
    let long = registry(&["ls", "-l", bed.host()]).await;
    assert_screen(&long, bed.host(), "  TAGS  REPOSITORY\n     1  app\n     2  fleet/nav\n");
    let json = report(&registry(&["ls", "--long", bed.host(), "--output", "json"]).await);
    let expected = serde_json::json!({
        "registry": bed.host(),
        "repositories": [{"repository": "app", "tags": 1}, {"repository": "fleet/nav", "tags": 2}],
    });
    assert_eq!(json, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_a_list_of_repositories_says_so_and_how_to_go_on() {
    for (code, kind) in [(404, "no list of repositories"), (405, "405"), (401, "401")] {
        let server = Server::start(move |_| status(code)).await;
        let done = registry(&["ls", &server.host]).await;
        assert_code(&done, 4);
        let hint = format!("name one, registry ls {}/REPOSITORY", server.host);
        assert!(text(&done).contains(kind) && text(&done).contains(&hint), "{code}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_repository_is_not_an_empty_one() {
    let bed = Testbed::start().await;
    let done = registry(&["ls", &format!("{}/nothing", bed.host())]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("hint: check the repository's name"), "{}", text(&done));
    let empty =
        Server::start(|_| answer(200, &[("content-type", "application/json")], r#"{"name":"a","tags":null}"#)).await;
    let done = registry(&["ls", &format!("{}/a", empty.host), "--output", "json"]).await;
    assert_code(&done, 0);
    assert_eq!(report(&done)["tags"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn details_show_each_image_at_80_columns_and_read_it_once() {
    let bed = Testbed::start().await;
    let store = publisher(&bed, "robot");
    let image = shape::three_platforms(1, &[70_000, 30]).put(&store, &[]).await;
    for tag in ["v1.10.0", "v1.9.0", "latest"] {
        images::tag(&store, &image, tag).await;
    }
    let chart = shape::artifact_with_empty_config(2, 500).put(&store, &[]).await;
    images::tag(&store, &chart, "chart").await;
    images::tag(&store, &chart, &format!("a-long-name-{}", "x".repeat(30))).await;
    bed.clear_log();
    let repository = format!("{}/robot", bed.host());
    let done = registry(&["ls", "-l", &repository]).await;
    assert_code(&done, 0);
    assert_screen(
        &done,
        bed.host(),
        "\
TAG      DIGEST              SIZE    AGE  PLATFORMS
a-long-name-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
         … …      -  …
chart    … …      -  …
latest   … … KiB     …y  linux/amd64,arm64/v8,riscv64
v1.9.0   … … KiB     …y  linux/amd64,arm64/v8,riscv64
v1.10.0  … … KiB     …y  linux/amd64,arm64/v8,riscv64
",
    );
    // The list, five roots, the image's three manifests and one configuration.
    assert_eq!((bed.count(Kind::Tags), bed.count(Kind::ManifestGet), bed.count(Kind::BlobGet)), (1, 8, 1));
    assert_eq!(bed.requests(), 10, "{:?}", requests(&bed));

    let json = report(&registry(&["ls", "-l", &repository, "--output", "json"]).await);
    assert_eq!(json["repository"], repository.as_str());
    let size = shape::three_platforms(1, &[70_000, 30]).size();
    let expected = serde_json::json!({
        "tag": "latest", "digest": image.digest, "media_type": MediaType::OCI_INDEX, "size": size,
        "platforms": ["linux/amd64", "linux/arm64/v8", "linux/riscv64"], "created": json["tags"][2]["created"],
    });
    assert_eq!(json["tags"][2], expected);
    assert!(json["tags"][2]["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(json["tags"][1]["created"], serde_json::Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_read_is_told_in_its_row() {
    let bed = Testbed::start().await;
    let store = publisher(&bed, "app");
    let image = images::two_platforms(&store, 1, &[10]).await;
    images::tag(&store, &image, "v1").await;
    images::tag(&store, &image, "v2").await;
    bed.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at_the_end("/manifests/v1"));
    let done = registry(&["ls", "-l", &format!("{}/app", bed.host())]).await;
    assert_code(&done, 5);
    assert!(text(&done).contains("error: 1 entry could not be read") && text(&done).contains(&image.digest.short()));
    let json = report(&registry(&["ls", "-l", &format!("{}/app", bed.host()), "--output", "json"]).await);
    assert!(json["tags"][0]["error"].as_str().unwrap().contains("404"), "{json}");
    assert_eq!(json["tags"][1]["digest"], image.digest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms_that_are_not_there_are_not_counted() {
    let bed = Testbed::start().await;
    let store = publisher(&bed, "app");
    let image = images::two_platforms(&store, 1, &[1000]).await;
    images::tag(&store, &image, "v1").await;
    bed.fault(Fault::always(Kind::ManifestGet, What::Status(404)).at("sha256:"));
    let json = report(&registry(&["ls", "-l", &format!("{}/app", bed.host()), "--output", "json"]).await);
    assert_eq!(json["tags"][0]["size"], image.size);
    assert_eq!(json["tags"][0]["platforms"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_place_that_cannot_be_listed_is_refused_with_the_right_spelling() {
    for (place, said) in [
        ("nginx", "write docker.io/library/nginx"),
        ("https://r.example/", "a reference has no scheme; write r.example"),
        ("r.example/app:v1", "write r.example/app, or see registry inspect"),
        ("", "write host[:port] or host[:port]/repository"),
    ] {
        let done = autonomy(&["registry", "ls", place]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(said), "{place}: {}", text(&done));
    }
}
