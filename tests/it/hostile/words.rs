//! Texts from hostile servers: names that would lead out of a folder, and words with terminal escapes.

use std::io::Write as _;
use std::process::Output;

use autonomy_registry::oci::MediaType;
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use serde_json::json;
use testkit::images;

use super::servers::{raw, seed, source};
use crate::kit::command::{assert_code, autonomy, each_at_once, publisher, text};
use crate::kit::files::files_below;
use crate::kit::wire_server::{Server, answer, status};

/// Starts a title, rings, colours, reverses the writing direction: in seven bits, in eight, as UTF-8.
const EVIL: &str = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{8}\u{0}\r\u{7f}";

/// The output modes of the program.
const VOICES: [&[&str]; 4] = [&["-vv"], &["--progress", "plain"], &["--progress", "json"], &["--output", "json"]];

/// Asserts that only text and line ends went to the terminal.
#[track_caller]
fn tame(output: &Output, what: &str) {
    for stream in [&output.stdout, &output.stderr] {
        let said = std::str::from_utf8(stream).unwrap();
        let strange = said.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
        assert_eq!(strange, None, "{what}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_header_status_or_body_reaches_the_terminal_as_it_is() {
    let document = json!({"errors": [{"code": EVIL, "message": EVIL, "detail": EVIL}]}).to_string();
    let page = format!("<html><title>{EVIL}</title>{EVIL}");
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let head = |line: &str, headers: &str, body: &str| {
        format!("HTTP/1.1 {line}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    let cases = [
        ("status line", head(&format!("403 {EVIL}"), "", "")),
        ("document", head("403 No", "Content-Type: application/json\r\n", &document)),
        ("document of a server that is away", head("503 No", "", &document)),
        ("text", head("400 No", "", EVIL)),
        ("page", head("404 No", "Content-Type: text/html\r\n", &page)),
        ("page that is no refusal", head("200 OK", "Content-Type: text/html\r\n", &page)),
        ("type", head("200 OK", &format!("Content-Type: x/{EVIL}\r\n"), "[]")),
        ("type that HTTP allows", head("200 OK", "Content-Type: x/\u{9b}31m\u{202e}\r\n", "[]")),
        ("digest", head("200 OK", &format!("Content-Type: {manifest}\r\nDocker-Content-Digest: \u{9b}31m\r\n"), "[]")),
        ("challenge", head("401 No", "WWW-Authenticate: Bearer realm=\"http://\u{9b}31m\u{202e}/\"\r\n", &document)),
        ("basic challenge", head("401 No", "WWW-Authenticate: Basic realm=\"\u{9b}31m\"\r\n", &document)),
        ("redirect", head("302 No", "Location: http://127.0.0.1:1/\u{9b}31m\u{202e}\r\n", "")),
        ("redirect to a name", head("302 No", "Location: http://%1b%5b31m.invalid/\r\n", "")),
        ("pause", head("429 No", "Retry-After: \u{9b}31m\r\n", &document)),
        ("session", head("202 OK", "Location: /\u{9b}31m%1b[31m\r\n", "")),
        ("no HTTP", EVIL.repeat(100)),
    ];
    let (good, sink) = (source().await, Testbed::start().await);
    let (good, to) = (good.host(), sink.host());
    each_at_once(cases.into_iter().enumerate(), |(number, (what, said))| {
        let hostile = raw(move |_, stream| stream.write_all(said.as_bytes()));
        async move {
            for (from, to) in [(hostile.as_str(), to), (good, hostile.as_str())] {
                let run = seed(from, to, VOICES[number % VOICES.len()]).await;
                tame(&run.output, what);
                run.bounded(what, 4);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_writes_do_not_reach_the_terminal_either() {
    let document = json!({"errors": [{"code": EVIL, "message": EVIL}]}).to_string();
    for (number, on) in
        [Kind::ManifestHead, Kind::UploadPost, Kind::UploadPut, Kind::ManifestPut].into_iter().enumerate()
    {
        let (good, sink) = (source().await, Testbed::start().await);
        sink.fault(Fault::always(on, What::Status(403)));
        sink.fault(Fault::always(on, What::Replace(document.clone().into())));
        let run = seed(good.host(), sink.host(), VOICES[number]).await;
        tame(&run.output, &format!("{on:?}"));
        // A tag that is hidden counts as absent.
        run.bounded(&format!("{on:?}"), if on == Kind::ManifestHead { 0 } else { 4 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_that_are_paths_are_refused_and_never_asked_for() {
    let hex = "a".repeat(64);
    for digest in [
        "sha256:../../../../../etc/passwd".to_owned(),
        "../../../../../etc/passwd".into(),
        format!("sha256:..%2f..%2f{}", &hex[10..]),
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{hex}/../../../v2/other/manifests/v1"),
        format!("sha256:{hex}?x=y"),
        format!("sha256:{hex}\u{0}"),
        format!("md5:{}", &hex[..32]),
        String::new(),
        EVIL.to_owned(),
    ] {
        let node = |media_type| json!({"mediaType": media_type, "digest": digest, "size": 10});
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_INDEX, "manifests": [node(MediaType::OCI_MANIFEST)]});
        let image = json!({"schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "config": node(MediaType::OCI_CONFIG), "layers": [node(MediaType::OCI_LAYER)]});
        for (media_type, manifest) in [(MediaType::OCI_INDEX, index), (MediaType::OCI_MANIFEST, image)] {
            let (said, kind) = (manifest.to_string(), media_type.to_string());
            let hostile = Server::start(move |asked| match asked.line.contains("/manifests/v1") {
                true => answer(200, &[("content-type", &kind)], said.clone()),
                false => status(404),
            })
            .await;
            let sink = Testbed::start().await;
            let run = seed(&hostile.host, sink.host(), &[]).await;
            run.bounded(&digest, 4);
            tame(&run.output, &digest);
            let lines = hostile.lines();
            let is_asked_for = |line: &String| line.contains("..") || (!digest.is_empty() && line.contains(&digest));
            assert!(!lines.iter().any(is_asked_for), "{digest}: {lines:?}");
            assert!(!lines.iter().any(|line| line.contains("/blobs/")), "{digest}: {lines:?}");
            assert_eq!(sink.log().iter().filter(|seen| seen.method != "HEAD").count(), 0, "{digest}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_a_source_lists_lead_out_of_no_folder_and_to_no_terminal() {
    let (good, sink) = (source().await, Testbed::start().await);
    let names = ["v1", "../../evil", "..", ".", "/etc/passwd", "a/b", "a\\b", "%2e%2e%2fx", "", "-rf", "v1\n", EVIL];
    good.fault(Fault::always(Kind::Tags, What::Replace(json!({"name": EVIL, "tags": names}).to_string().into())));
    let home = tempfile::tempdir().unwrap();
    let (catalog, out) = (home.path().join("catalog.yaml"), home.path().join("a/out"));
    let entry = format!("- from: {}/app\n    to: {}/app\n    tags: \"*\"\n", good.host(), sink.host());
    std::fs::write(&catalog, format!("version: 1\nentries:\n  {entry}")).unwrap();
    for voice in VOICES {
        let mut arguments = vec!["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--catalog"];
        arguments.extend([catalog.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        arguments.extend(voice);
        let done = autonomy(&arguments).await;
        tame(&done, "a list of tags");
        assert_code(&done, 0);
    }
    let strays: Vec<_> = files_below(home.path(), "")
        .into_iter()
        .filter(|file| !file.starts_with(&out) && !file.ends_with("catalog.yaml"))
        .collect();
    assert!(strays.is_empty(), "{strays:?}");
    assert!(!files_below(&out, "seed.lock").is_empty(), "v1 has been seeded");
    let tagged: Vec<_> =
        sink.log().into_iter().filter(|seen| seen.kind == Kind::ManifestPut).map(|seen| seen.path).collect();
    assert!(
        tagged.iter().all(|path| path.contains("/manifests/sha256:") || path == "/v2/app/manifests/v1"),
        "{tagged:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn places_of_uploads_that_lead_elsewhere_take_no_login_and_no_file_along() {
    let good = source().await;
    images::tag(&publisher(&good, "app"), &images::two_platforms(&publisher(&good, "app"), 3, &[10]).await, "v1").await;
    for place in
        ["../../../../../etc/passwd", "//127.0.0.1:1/x", "file:///etc/passwd", "http://[::1", "", "?x", "\\..\\x"]
    {
        let sink = Testbed::start().await;
        sink.fault(Fault::always(Kind::UploadPost, What::SetHeader { name: "location", value: place.into() }));
        let run = seed(good.host(), sink.host(), &[]).await;
        tame(&run.output, place);
        run.bounded(place, 4);
        assert!(text(&run.output).contains("destination: "), "{place}: {}", text(&run.output));
        assert_eq!(sink.count(Kind::ManifestPut), 0, "{place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_without_a_type_is_reported_as_such() {
    let hostile =
        raw(move |_, stream| stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
    let sink = Testbed::start().await;
    let run = seed(&hostile, sink.host(), &[]).await;
    assert_code(&run.output, 4);
    let said = text(&run.output);
    assert!(said.contains("what came has no type, and is no manifest that tells its own"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_of_a_registry_reaches_the_terminal_when_it_is_shown() {
    let bed = source().await;
    let store = publisher(&bed, "app");
    let v1 = autonomy_registry::oci::Name::Tag("v1".parse().unwrap());
    let image = autonomy_registry::store::Store::resolve(&store, &v1).await.unwrap();
    let attached = images::sidecar(&store, &image, &format!("application/x.{EVIL}"), b"{}").await;
    images::tag(&store, &attached, "evil").await;
    let layer =
        json!({"mediaType": EVIL, "digest": attached.digest, "size": 1, "annotations": {"predicateType": EVIL}});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": EVIL, "layers": [layer],
        "subject": image, "annotations": {"org.opencontainers.image.created": EVIL},
    });
    bed.fault(
        Fault::always(
            Kind::ManifestGet,
            What::Serve {
                media_type: "application/vnd.oci.image.manifest.v1+json",
                bytes: manifest.to_string().into(),
            },
        )
        .at_the_end("/manifests/evil"),
    );
    let list = json!({"name": EVIL, "tags": ["v1", "evil", EVIL]}).to_string();
    bed.fault(Fault::always(Kind::Tags, What::Replace(list.into())));
    let (repository, image) = (format!("{}/app", bed.host()), format!("{}/app:v1", bed.host()));
    let evil = format!("{}/app:evil", bed.host());
    for words in [
        &["ls", &repository][..],
        &["ls", "-l", &repository],
        &["ls", "-l", bed.host()],
        &["inspect", &image],
        &["inspect", &evil],
        &["rm", &image, "--dry-run"],
    ] {
        for voice in [&["-vv"][..], &["--output", "json"]] {
            let done = autonomy(&[&["registry"], words, &["--allow-insecure-registry"], voice].concat()).await;
            tame(&done, &format!("{words:?}"));
            assert_code(&done, 0);
        }
    }
}
