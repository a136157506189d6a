//! Hostile sources: their content must not crash the program, fill this machine's memory, write to its terminal, or look
//! like "not signed".

use std::collections::HashMap;
use std::sync::Arc;

use autonomy_registry::oci::{Descriptor, Digest, MediaType};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::store::{Registry, Role, Store};
use autonomy_registry::verify::SigningKey;
use serde_json::json;

use crate::kit::command::{assert_code, seed, text};
use crate::kit::resident::{MAX_RESIDENT, seed_anew};
use crate::kit::wire_server::{Asked, Server, answer, client, status};

/// A part of the request line, and the answer to it: status, headers and body.
type Case = (&'static str, u16, &'static [(&'static str, &'static str)], &'static str);

/// The content that a source serves, by the end of the path.
#[derive(Default, Clone)]
struct Shelf(HashMap<String, (MediaType, Vec<u8>)>);

impl Shelf {
    /// Puts a manifest there, by digest and under a tag if one is given.
    fn manifest(&mut self, media_type: MediaType, bytes: impl Into<Vec<u8>>, tag: Option<&str>) -> Descriptor {
        let bytes = bytes.into();
        let node = Descriptor::of(media_type.clone(), &bytes);
        for name in [Some(node.digest.to_string().as_str()), tag].into_iter().flatten() {
            self.0.insert(format!("/manifests/{name}"), (media_type.clone(), bytes.clone()));
        }
        node
    }

    fn blob(&mut self, bytes: impl Into<Vec<u8>>) -> Descriptor {
        let bytes = bytes.into();
        let node = Descriptor::of(MediaType::OCTET_STREAM, &bytes);
        self.0.insert(format!("/blobs/{}", node.digest), (MediaType::OCTET_STREAM, bytes));
        node
    }

    /// An index of these manifests under `v1`.
    fn index(&mut self, children: &[Descriptor]) {
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": children});
        self.manifest(MediaType::OCI_INDEX, index.to_string(), Some("v1"));
    }

    async fn serve(self) -> Server {
        self.serve_but(|_| None).await
    }

    /// Serves the stored content; `first` may answer before it.
    async fn serve_but(
        self,
        first: impl Fn(&Asked) -> Option<axum::response::Response> + Clone + Send + Sync + 'static,
    ) -> Server {
        let shelf = Arc::new(self);
        Server::start(move |asked| {
            if let Some(answer) = first(asked) {
                return answer;
            }
            let path = asked.line.split(['?', ' ']).nth(1).unwrap_or_default();
            match shelf.0.iter().find(|(end, _)| path.ends_with(end.as_str())) {
                Some((_, (media_type, bytes))) => answer(200, &[("content-type", media_type.as_str())], bytes.clone()),
                None => status(404),
            }
        })
        .await
    }
}

/// A manifest with these layers under `v1`, and nothing else.
fn image(layers: &str) -> Shelf {
    let mut shelf = Shelf::default();
    shelf.manifest(MediaType::OCI_MANIFEST, format!(r#"{{"schemaVersion":2,"layers":[{layers}]}}"#), Some("v1"));
    shelf
}

fn layer(digest: Digest, size: impl std::fmt::Display, more: &str) -> String {
    format!(r#"{{"mediaType":"{}","digest":"{digest}","size":{size}{more}}}"#, MediaType::OCI_LAYER)
}

/// A public key that signed nothing.
fn stranger() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), SigningKey::generate().unwrap().public_pem().unwrap()).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_whose_sum_overflows_are_refused() {
    let digests = [Digest::sha256(b"a"), Digest::sha256(b"b")];
    for sizes in [["9223372036854775808"; 2], ["18446744073709551615", "1"], ["1e300", "1"], ["-1", "1"]] {
        let layers = [layer(digests[0], sizes[0], ""), layer(digests[1], sizes[1], "")].join(",");
        let (done, _) = seed_anew(&image(&layers).serve().await.host, &["--skip-verify"]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("error: source: read manifest"), "{sizes:?}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_digest_with_two_sizes_is_refused_wherever_they_stand() {
    let mut one = image(&[layer(Digest::sha256(b"x"), 1, ""), layer(Digest::sha256(b"x"), 5, "")].join(","));
    one.blob("x");
    let mut two = Shelf::default();
    two.blob("x");
    let children = [1, 5].map(|size| {
        let layers = layer(Digest::sha256(b"x"), size, "");
        two.manifest(MediaType::OCI_MANIFEST, format!(r#"{{"schemaVersion":2,"layers":[{layers}]}}"#), None)
    });
    two.index(&children);
    for shelf in [one, two] {
        let (done, _) = seed_anew(&shelf.serve().await.host, &["--skip-verify"]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("said to be"), "{}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_place_of_something_is_the_sources_fault() {
    let mut shelf = image(&layer(Digest::sha256(b"x"), 0, ""));
    shelf.blob("x");
    let (done, _) = seed_anew(&shelf.serve().await.host, &["--skip-verify"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("error: source: read"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_would_fill_the_memory_is_refused_before_it_does() {
    let x = Digest::sha256(b"x");
    let many = |count: usize, one: &str| vec![one; count].join(",");
    let keys = |count: usize| (0..count).map(|n| format!(r#""{n:x}":"""#)).collect::<Vec<_>>().join(",");
    let counted = |count: usize, more: &str| {
        (0..count).map(|n| format!(r#"{{"digest":"sha256:{n:064x}","size":1{more}}}"#)).collect::<Vec<_>>().join(",")
    };
    let mut deep = Shelf::default();
    let pad = |n: usize, size: usize| format!(r#"{{"schemaVersion":2,"pad":"{n:02}{}"}}"#, "x".repeat(size));
    let children: Vec<_> = (0..24).map(|n| deep.manifest(MediaType::OCI_MANIFEST, pad(n, 4_000_000), None)).collect();
    deep.index(&children);
    let mut wide = Shelf::default();
    let children = [0, 1].map(|n| {
        let layers = counted(16_000, "").replace("sha256:0", &format!("sha256:{n}"));
        wide.manifest(MediaType::OCI_MANIFEST, format!(r#"{{"schemaVersion":2,"layers":[{layers}]}}"#), None)
    });
    wide.index(&children);
    for (name, shelf) in [
        ("urls", image(&layer(x, 1, &format!(r#","urls":[{}]"#, many(1_300_000, r#""""#))))),
        ("annotations", image(&layer(x, 1, &format!(r#","annotations":{{{}}}"#, keys(340_000))))),
        ("layers", image(&counted(40_000, ""))),
        ("layers with annotations", image(&counted(35_000, r#","annotations":{"":""}"#))),
        ("many large manifests", deep),
        ("many nodes", wide),
    ] {
        let (done, resident) = seed_anew(&shelf.serve().await.host, &["--skip-verify"]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("more than"), "{name}: {}", text(&done));
        assert!(resident < MAX_RESIDENT, "{name}: {resident} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_of_millions_of_values_takes_no_memory() {
    let mut shelf = Shelf::default();
    let config = format!(r#"{{"os":"linux","architecture":"amd64","x":[{}0]}}"#, "0,".repeat(1_900_000));
    let config = Descriptor { media_type: MediaType::OCI_CONFIG, ..shelf.blob(config) };
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": []});
    shelf.manifest(MediaType::OCI_MANIFEST, manifest.to_string(), Some("v1"));
    let (done, resident) = seed_anew(&shelf.serve().await.host, &["--skip-verify"]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("linux/amd64") && resident < MAX_RESIDENT, "{resident} bytes, {}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn accessories_cannot_fill_the_memory_either() {
    let key = stranger();
    let trusted = ["--pub-key", key.path().to_str().unwrap()];
    let entry = |n: usize| format!(r#"{{"digest":"sha256:{n:064x}","size":0,"annotations":{{"":""}}}}"#);
    let page = format!(r#"{{"manifests":[{}]}}"#, (0..30_000).map(entry).collect::<Vec<_>>().join(","));
    let endless = image("")
        .serve_but(move |asked| {
            let number = asked.line.rsplit('=').next()?.parse::<u32>().unwrap_or_default() + 1;
            let link = format!(r#"</v2/app/referrers/x?page={number}>; rel="next""#);
            asked.line.contains("/referrers/").then(|| answer(200, &[("link", &link)], page.clone()))
        })
        .await;
    let mut shelf = image("");
    let bundle = shelf.blob(format!(r#"{{"x":[{}0]}}"#, "0,".repeat(2_000_000)));
    let bundle = Descriptor { media_type: MediaType::new("application/vnd.dev.sigstore.bundle.v0.3+json"), ..bundle };
    let subject = Descriptor::of(MediaType::OCI_MANIFEST, br#"{"schemaVersion":2,"layers":[]}"#);
    let referrer = json!({"schemaVersion": 2, "layers": [bundle], "subject": subject}).to_string();
    let referrer = shelf.manifest(MediaType::OCI_MANIFEST, referrer, None);
    let list = json!({"schemaVersion": 2, "manifests": [referrer]}).to_string();
    let heavy =
        shelf.serve_but(move |asked| asked.line.contains("/referrers/").then(|| answer(200, &[], list.clone()))).await;
    for (name, source, says) in [("referrers", endless, "SIG_LIMIT"), ("bundle", heavy, "more than 50000 values")] {
        let (done, resident) = seed_anew(&source.host, &trusted).await;
        assert_code(&done, 3);
        assert!(text(&done).contains(says), "{name}: {}", text(&done));
        assert!(resident < MAX_RESIDENT, "{name}: {resident} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_was_not_answered_is_never_a_signature_that_is_not_there() {
    let key = stranger();
    let trusted = ["--pub-key", key.path().to_str().unwrap()];
    const LIST: &str = r#"{"schemaVersion":2,"manifests":[]}"#;
    const NEXT: &str = r#"</v2/app/referrers/x?second>; rel="next""#;
    let cases: &[Case] = &[
        (".sig", 401, &[], ""),
        (".sig", 403, &[], ""),
        (".sig", 405, &[], ""),
        (".sig", 410, &[], ""),
        (".sig", 200, &[("content-type", "text/plain")], "hello"),
        (".sig", 200, &[("content-type", "text/html")], "<html>"),
        ("/referrers/", 401, &[], ""),
        ("/referrers/", 403, &[], ""),
        ("/referrers/", 204, &[], ""),
        ("/referrers/", 302, &[("location", "file:///etc/passwd")], ""),
        ("/referrers/", 200, &[], "[]"),
        ("/referrers/", 200, &[("link", r#"<file:///etc/passwd>; rel="next""#)], LIST),
        ("/referrers/", 200, &[("link", r#"<http://r.example:99999/>; rel="next""#)], LIST),
        // The first page is a list, the second is not found.
        ("/referrers/", 200, &[("link", NEXT)], LIST),
        ("/referrers/", 200, &[("link", r#"</first>; rel="first""#), ("link", NEXT)], LIST),
    ];
    for &(on, code, headers, body) in cases {
        let source = image("")
            .serve_but(move |asked| {
                let is_meant = asked.line.contains(on) && !asked.line.contains("?second");
                is_meant.then(|| answer(code, headers, body))
            })
            .await;
        let (done, _) = seed_anew(&source.host, &trusted).await;
        assert_code(&done, 4);
        assert!(!text(&done).contains("SIG_"), "{on} {code} {headers:?} {body}: {}", text(&done));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_at_the_end_of_numbers_are_refused() {
    let node = Descriptor::new(MediaType::OCI_LAYER, Digest::sha256(b"x"), 1000);
    for headers in [
        [("content-range", "bytes 1-18446744073709551615/*"), ("x", "")],
        [("content-range", "bytes 1-999/1000"), ("content-length", "18446744073709551613")],
    ] {
        let server = Server::start(move |_| answer(206, &headers, "")).await;
        let store = Registry::new(&client(), &server.repository("app"), Role::Source);
        assert!(store.open(&node, 1).await.is_err(), "{headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_source_says_reaches_the_terminal_as_it_is() {
    let evil = "\u{1b}]0;pwned\u{7}\u{9b}31m\u{202e}";
    let refusal = json!({"errors": [{"code": evil, "message": evil}]}).to_string();
    let refused = Shelf::default().serve_but(move |_| Some(answer(403, &[], refusal.clone()))).await;
    let mut shelf = Shelf::default();
    let manifest = json!({"schemaVersion": 2, "mediaType": evil, "layers": []}).to_string();
    shelf.manifest(MediaType::OCI_MANIFEST, manifest, Some("v1"));
    let typed = shelf.serve().await;
    let mut shelf = Shelf::default();
    let child = shelf.manifest(MediaType::OCI_MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#, None);
    let mut child = serde_json::to_value(child).unwrap();
    child["platform"] = json!({"os": evil, "architecture": evil});
    let index = json!({"schemaVersion": 2, "manifests": [child]}).to_string();
    shelf.manifest(MediaType::OCI_INDEX, index, Some("v1"));
    let platform = shelf.serve().await;
    for (source, code) in [(refused, 4), (typed, 4), (platform, 0)] {
        for more in [&["-vv"][..], &["--progress", "json"], &["--output", "json"]] {
            let (done, _) = seed_anew(&source.host, &[&["--skip-verify"], more].concat()).await;
            assert_code(&done, code);
            let said = text(&done);
            let hidden = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}'];
            assert!(!said.contains(hidden), "{more:?}: {said:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_root_or_a_lying_header_ends_in_exit_4() {
    for what in [What::FlipBit { at: 10 }, What::Truncate { to: 50 }, What::WrongLength, What::Html] {
        let (source, sink) = (Testbed::start().await, Testbed::start().await);
        let store = crate::kit::command::publisher(&source, "app");
        let root = testkit::images::two_platforms(&store, 1, &[100]).await;
        testkit::images::tag(&store, &root, "v1").await;
        source.fault(Fault::always(Kind::ManifestGet, what.clone()).at("manifests/v1"));
        let out = tempfile::tempdir().unwrap();
        let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
        let done = seed(&from, &to, out.path(), &["--skip-verify"]).await;
        assert_code(&done, 4);
        assert_eq!(sink.count(Kind::ManifestPut) + std::fs::read_dir(out.path()).unwrap().count(), 0, "{what:?}");
    }
}
