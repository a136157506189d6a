//! Manifests and tags: which are accepted, how they are listed, and how they are deleted.

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::Testbed;
use reqwest::Method;

use crate::kit::asking::{Asking, code, header, image, json};

#[tokio::test]
async fn a_manifest_is_taken_only_if_it_can_be_pulled_again() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    asking.push_blob(b"{}").await;
    let text = image(&[("config", b"{}"), ("layer", b"missing layer")], "x", None);
    let refused = asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &text).await;
    assert_eq!(refused.status(), 404);
    let told = refused.text().await.unwrap();
    let missing = Digest::sha256(b"missing layer").to_string();
    assert!(told.contains("MANIFEST_BLOB_UNKNOWN") && told.contains(&missing), "{told}");
    assert_eq!(code(asking.get("manifests/v1").await).await, (404, "MANIFEST_UNKNOWN".into()));
    let foreign = text.replace(
        "application/vnd.oci.image.config.v1+json\",\"size\":13",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip\",\"size\":13",
    );
    assert_ne!(foreign, text);
    assert_eq!(asking.put_manifest("v1", &MediaType::OCI_MANIFEST, &foreign).await.status(), 201);
    let child = Descriptor::of(MediaType::OCI_MANIFEST, b"not here");
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    assert_eq!(asking.put_manifest("sparse", &MediaType::OCI_INDEX, &index).await.status(), 201);
    assert_eq!(header(&asking.get("manifests/sparse").await, "content-type"), MediaType::OCI_INDEX.as_str());
    for (media_type, text) in [
        (MediaType::OCI_INDEX, foreign.as_str()),
        (MediaType::OCI_MANIFEST, "no json"),
        (MediaType::new("text/html"), "{}"),
        (MediaType::DOCKER_SCHEMA1, "{}"),
    ] {
        let refused = asking.put_manifest("v2", &media_type, text).await;
        assert_eq!(code(refused).await, (400, "MANIFEST_INVALID".into()), "{media_type} {text}");
    }
    let large = format!(r#"{{"schemaVersion":2,"manifests":[],"x":"{}"}}"#, "x".repeat(4 << 20));
    assert_eq!(asking.put_manifest("v2", &MediaType::OCI_INDEX, &large).await.status(), 413);
}

#[tokio::test]
async fn tags_beside_a_digest_are_all_put() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let text = r#"{"schemaVersion":2,"manifests":[]}"#;
    let digest = Digest::sha256(text.as_bytes());
    let answer = asking.put_manifest(&format!("{digest}?tag=b&tag=a"), &MediaType::OCI_INDEX, text).await;
    assert_eq!(answer.status(), 201);
    let told: Vec<_> = answer.headers().get_all("oci-tag").iter().collect();
    assert_eq!(told, ["b", "a"]);
    assert_eq!(json(asking.get("tags/list").await).await["tags"], serde_json::json!(["a", "b"]));
    let refused = asking.put_manifest(&format!("{digest}?tag=.no"), &MediaType::OCI_INDEX, text).await;
    assert_eq!(refused.status(), 400);
}

#[tokio::test]
async fn tags_and_repositories_are_listed_page_by_page() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    assert_eq!(code(asking.get("tags/list").await).await, (404, "NAME_UNKNOWN".into()));
    for tag in ["v2", "v10", "latest", "A"] {
        asking.push_image(tag, tag, None).await;
    }
    let mut path = "tags/list?n=3".to_owned();
    let mut pages = Vec::new();
    while !path.is_empty() {
        let answer = asking.get(&path).await;
        let link = header(&answer, "link");
        path = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        pages.push(json(answer).await["tags"].clone());
    }
    assert_eq!(serde_json::json!(pages), serde_json::json!([["A", "latest", "v10"], ["v2"]]));
    let last = asking.get("tags/list?n=2&last=latest").await;
    assert_eq!(header(&last, "link"), "", "no link to an empty page");
    assert_eq!(json(last).await["tags"], serde_json::json!(["v10", "v2"]));
    assert_eq!(json(asking.get("tags/list?n=0").await).await["tags"], serde_json::json!([]));
    assert_eq!(asking.get("tags/list?n=x").await.status(), 400);
    Asking::of(&server, "app/nested").push_blob(b"x").await;
    let all = json(asking.get("/v2/_catalog").await).await;
    assert_eq!(all["repositories"], serde_json::json!(["app", "app/nested"]));
    assert_eq!(json(asking.get("/v2/_catalog?n=1").await).await["repositories"], serde_json::json!(["app"]));
}

#[tokio::test]
async fn referrers_are_listed_and_filtered() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let subject = Descriptor::of(MediaType::OCI_MANIFEST, b"comes later");
    let none = asking.get(&format!("referrers/{}", subject.digest)).await;
    assert_eq!((none.status().as_u16(), header(&none, "content-type").as_str()), (200, MediaType::OCI_INDEX.as_str()));
    assert_eq!(json(none).await["manifests"], serde_json::json!([]));
    asking.push_image("", "one", Some(&subject)).await;
    let two = asking.push_image("", "two", Some(&subject)).await;
    let text = image(&[("config", b"{\"one\":0}")], "three", Some(&subject));
    let pushed = asking.put_manifest("v3", &MediaType::OCI_MANIFEST, &text).await;
    assert_eq!(header(&pushed, "oci-subject"), subject.digest.to_string());
    let path = format!("referrers/{}", subject.digest);
    assert_eq!(json(asking.get(&path).await).await["manifests"].as_array().unwrap().len(), 3);
    let some = asking.get(&format!("{path}?artifactType=application/x.two")).await;
    assert_eq!(header(&some, "oci-filters-applied"), "artifactType");
    let some = json(some).await;
    assert_eq!(some["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(some["manifests"][0]["digest"], two.digest.to_string());
    assert_eq!(some["manifests"][0]["annotations"]["salt"], "two");
    assert_eq!(asking.get("referrers/nonsense").await.status(), 400);
    let gone = asking.send(Method::DELETE, &format!("manifests/{}", two.digest), &[], b"").await;
    assert_eq!(gone.status(), 202);
    assert_eq!(json(asking.get(&path).await).await["manifests"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_tag_goes_alone_and_a_manifest_with_its_tags() {
    let server = Testbed::start().await;
    let asking = Asking::of(&server, "app");
    let node = asking.push_image("v1", "x", None).await;
    asking.push_image("v2", "x", None).await;
    let delete = async |what: String| asking.send(Method::DELETE, &what, &[], b"").await.status().as_u16();
    assert_eq!(delete("manifests/v1".into()).await, 202);
    assert_eq!(delete("manifests/v1".into()).await, 404);
    assert_eq!(asking.get("manifests/v2").await.status(), 200);
    assert_eq!(delete(format!("blobs/{}", node.digest)).await, 405, "a manifest is no blob");
    assert_eq!(delete(format!("manifests/{}", node.digest)).await, 202);
    assert_eq!(asking.get("manifests/v2").await.status(), 404);
    assert_eq!(asking.get(&format!("manifests/{}", node.digest)).await.status(), 404);
    assert_eq!(json(asking.get("tags/list").await).await["tags"], serde_json::json!([]));
}
