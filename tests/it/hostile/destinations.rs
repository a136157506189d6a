//! Hostile destinations and careless operators: no tag moves to unverified content, nothing is half-written, and every
//! message is true.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use autonomy_registry::oci::Digest;
use autonomy_registry::serve::Profile;
use autonomy_registry::serve::testkit::{Fault, Kind, What};
use autonomy_registry::store::{Body, Store};
use autonomy_registry::trust::{artifact, simple_signing};
use autonomy_registry::verify::{SigningKey, signature_tag};
use axum::response::Response;
use testkit::images::shape;

use crate::kit::command::{assert_code, autonomy, each_at_once, publisher, seed, seeding, text};
use crate::kit::route::Route;
use crate::kit::wire_server::{Asked, Server, answer, status};

/// From a signed image of two platforms, with its public key in `cosign.pub`.
async fn signed() -> Route {
    let route = Route::new(shape::two_platforms(1, &[1000, 2000]), Profile::default()).await;
    let store = publisher(&route.source, "app");
    let key = SigningKey::generate().unwrap();
    let digest = &route.root.digest;
    let said = simple_signing::legacy(&route.source.repository("app"), digest, Some(jiff::Timestamp::now()));
    let signed = artifact::legacy_manifest(&[], &[(said.clone(), key.sign(&said).unwrap())]);
    for (node, bytes) in &signed.blobs {
        store.put(node, &Body::bytes(node.clone(), bytes.clone()), &[]).await.unwrap();
    }
    let body = Body::bytes(signed.node.clone(), signed.manifest.clone());
    store.put(&signed.node, &body, &[signature_tag(digest).unwrap()]).await.unwrap();
    std::fs::write(route.path("cosign.pub"), key.public_pem().unwrap()).unwrap();
    std::fs::create_dir(route.out()).unwrap();
    route
}

/// `registry seed` with the key.
fn verified(route: &Route, to: &str) -> tokio::process::Command {
    seeding(&route.from(), to, &route.out(), &["--pub-key", &route.path("cosign.pub")])
}

/// A media type and bytes.
type Typed = (String, Vec<u8>);

/// A registry in memory with scripted behaviour.
#[derive(Default, Clone)]
struct Shelf {
    held: Arc<Mutex<HashMap<String, Typed>>>,
    tags: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Shelf {
    fn answer(&self, asked: &Asked) -> Response {
        let (method, target) = asked.line.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (before, name) = path.rsplit_once('/').unwrap();
        let digest = Digest::sha256(&asked.body).to_string();
        let put = |digest: &str| {
            let media_type = asked.header("content-type").unwrap_or_default().to_owned();
            self.held.lock().unwrap().insert(digest.to_owned(), (media_type, asked.body.to_vec()));
            answer(201, &[("docker-content-digest", digest), ("oci-subject", digest)], "")
        };
        match method {
            "POST" => answer(202, &[("location", "/v2/app/blobs/uploads/1")], ""),
            "PUT" if path.ends_with("/uploads/1") && query.contains(&digest) => put(&digest),
            "PUT" if before.ends_with("/manifests") => {
                if !name.starts_with("sha256:") {
                    self.tags.lock().unwrap().insert(name.to_owned(), digest.clone());
                }
                put(&digest)
            }
            "GET" | "HEAD" => {
                let digest = self.tags.lock().unwrap().get(name).cloned().unwrap_or_else(|| name.to_owned());
                match self.held.lock().unwrap().get(&digest) {
                    Some((media_type, bytes)) => {
                        let length = bytes.len().to_string();
                        let headers = [
                            ("content-type", media_type.as_str()),
                            ("docker-content-digest", &digest),
                            ("content-length", &length),
                        ];
                        answer(200, &headers, if method == "GET" { bytes.clone() } else { Vec::new() })
                    }
                    None => status(404),
                }
            }
            _ => status(400),
        }
    }

    fn tag(&self, name: &str) -> Option<String> {
        self.tags.lock().unwrap().get(name).cloned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_lies_is_never_given_the_tag() {
    let other = || What::Replace(br#"{"schemaVersion":2,"layers":[]}"#.as_slice().into());
    let cases = [
        // It answers 201 and keeps nothing.
        (Kind::UploadPut, What::Status(201), ""),
        (Kind::ManifestPut, What::Status(201), "sha256:"),
        (Kind::ManifestGet, other(), "sha256:"),
        (Kind::ManifestGet, other(), ".sig"),
        (Kind::ManifestGet, What::FlipBit { at: 40 }, "sha256:"),
        (Kind::ManifestGet, What::Status(403), ".sig"),
        (Kind::ManifestGet, What::Html, ".sig"),
        (Kind::BlobGet, What::FlipBit { at: 3 }, ""),
        (Kind::UploadPost, What::Status(405), ""),
        (Kind::UploadPost, What::Status(202), ""),
    ];
    each_at_once(cases, async |(on, what, at)| {
        let route = signed().await;
        route.sink.fault(Fault::always(on, what.clone()).at(at));
        let done = verified(&route, &route.to()).output().await.unwrap();
        assert!(matches!(done.status.code(), Some(3 | 4)), "{on:?} {what:?}: {}", text(&done));
        assert_eq!((route.tagged().await, route.written()), (None, 0), "{on:?} {what:?}: {}", text(&done));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_refuses_every_write_is_exit_4() {
    let route = signed().await;
    for on in [Kind::UploadPost, Kind::ManifestPut] {
        route.sink.fault(Fault::always(on, What::Status(405)));
    }
    assert_code(&verified(&route, &route.to()).output().await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_names_something_too_large_to_read_can_be_put_elsewhere() {
    let (route, shelf) = (signed().await, Shelf::default());
    let (large, behind) = (Digest::sha256(b"large").to_string(), shelf.clone());
    let sink = Server::start(move |asked| {
        let is_tag = asked.is("HEAD") && asked.line.ends_with("/manifests/v1");
        let media_type = "application/vnd.oci.image.index.v1+json";
        let headers =
            [("docker-content-digest", large.as_str()), ("content-type", media_type), ("content-length", "5242880")];
        if is_tag { answer(200, &headers, "") } else { behind.answer(asked) }
    });
    let sink = sink.await;
    assert_code(&verified(&route, &format!("{}/app:v1", sink.host)).output().await.unwrap(), 0);
    assert_eq!(shelf.tag("v1"), Some(route.root.digest.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_is_stopped_while_its_tag_is_put_does_not_say_that_it_was_not() {
    for (pause, code) in [(Duration::from_millis(700), 0), (Duration::from_secs(6), 130)] {
        let (route, shelf) = (signed().await, Shelf::default());
        let behind = shelf.clone();
        let sink = Server::start(move |asked| {
            let done = behind.answer(asked);
            // The tag has moved, and the program has not seen that yet.
            if asked.is("PUT") && asked.line.ends_with("/manifests/v1") {
                tokio::task::block_in_place(|| std::thread::sleep(pause));
            }
            done
        })
        .await;
        let mut command = verified(&route, &format!("{}/app:v1", sink.host));
        let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id().unwrap().to_string();
        while shelf.tag("v1").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let done = tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
        assert_code(&done, code);
        assert!(!text(&done).contains("was not moved"), "{}", text(&done));
        assert_eq!(route.written(), if code == 0 { 2 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_could_not_take_the_record_is_refused_before_anything_is_asked() {
    let route = signed().await;
    let home = route.home.path();
    for name in ["lock/seed.lock", "manifest/seed-manifest.json/x"] {
        std::fs::create_dir_all(home.join(name)).unwrap();
    }
    std::fs::write(home.join("file"), "").unwrap();
    let mut folders = vec!["lock".to_owned(), "manifest".to_owned(), "file".to_owned(), "file/below".to_owned()];
    folders.push("x".repeat(300));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(home.join("nowhere"), home.join("dangling")).unwrap();
        folders.extend(["dangling".to_owned(), "dangling/below".to_owned()]);
    }
    route.source.clear_log();
    for name in folders {
        let out = route.path(&name);
        let done = seed(&route.from(), &route.to(), Path::new(&out), &["--skip-verify"]).await;
        assert_code(&done, 2);
        assert!(text(&done).contains("--out"), "{}", text(&done));
        assert_eq!(route.requests(), (0, 0), "{name}");
        assert!(!home.join(&name).join("seed-manifest.json").is_file(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_an_end_or_without_a_beginning_are_usage_errors() {
    let route = signed().await;
    let endless = route.path("endless");
    std::fs::File::create(&endless).unwrap().set_len(1 << 40).unwrap();
    let absent = route.path("absent");
    let private = route.path("private.pem");
    std::fs::write(
        &private,
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
    )
    .unwrap();
    route.source.clear_log();
    for (flags, says) in [
        (["--pub-key", &endless], "larger than"),
        (["--pub-key", &private], "private"),
        (["--pub-key", &route.path("out")], "directory"),
        (["--authfile", &endless], "larger than"),
        (["--authfile", &absent], "no such file"),
        (["--ca-file", &endless], "larger than"),
        (["--ca-file", &absent], "No such file"),
    ] {
        let mut arguments = vec!["registry", "seed", "--allow-insecure-registry"];
        let (from, to, out) = (route.from(), route.to(), route.path("out"));
        arguments.extend(["--from", &from, "--to", &to, "--out", &out]);
        arguments.extend(flags);
        if flags[0] != "--pub-key" {
            arguments.push("--skip-verify");
        }
        let done = autonomy(&arguments).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says), "{flags:?}: {}", text(&done));
        assert_eq!((route.source.requests(), route.written()), (0, 0), "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_seeds_at_once_into_one_place_are_both_done() {
    let route = signed().await;
    let (to, key, out) = (route.to(), route.path("cosign.pub"), route.path("new/folder"));
    for _ in 0..5 {
        let more = ["--pub-key", key.as_str()];
        let from = route.from();
        let run = || seed(&from, &to, Path::new(&out), &more);
        let (one, two, three) = tokio::join!(run(), run(), run());
        for done in [one, two, three] {
            assert_code(&done, 0);
        }
        assert_eq!(route.tagged().await, Some(route.root.digest));
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2);
        std::fs::remove_dir_all(route.path("new")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_one_request_of_a_verified_seed_may_fail_once() {
    let clean = signed().await;
    clean.source.clear_log();
    assert_code(&verified(&clean, &clean.to()).output().await.unwrap(), 0);
    let mut runs = tokio::task::JoinSet::new();
    for (is_source, log) in [(true, clean.source.log()), (false, clean.sink.log())] {
        for (place, seen) in log.iter().enumerate() {
            let nth = u32::try_from(log[..=place].iter().filter(|other| other.kind == seen.kind).count()).unwrap();
            // A list has no digest: only damage that makes it unreadable is noticed.
            let at = if [Kind::Tags, Kind::Referrers].contains(&seen.kind) { 0 } else { 20 };
            let read = [What::FlipBit { at }, What::CutBody { after: 20 }, What::ResetBefore];
            let written = [What::Status(503), What::ResetAfter, What::ResetBefore];
            let is_read = seen.method == "GET" && seen.status == 200;
            let what = if is_read { read } else { written }[place % 3].clone();
            let fault = Fault { nth, ..Fault::next(seen.kind, what) };
            let without = log.len();
            while runs.len() >= 4 {
                runs.join_next().await.unwrap().unwrap();
            }
            runs.spawn(async move {
                let route = signed().await;
                let bed = if is_source { &route.source } else { &route.sink };
                bed.clear_log();
                bed.fault(fault.clone());
                let done = verified(&route, &route.to()).output().await.unwrap();
                assert_eq!(done.status.code(), Some(0), "source {is_source}, {fault:?}: {}", text(&done));
                assert_eq!(route.tagged().await, Some(route.root.digest), "source {is_source}, {fault:?}");
                assert!(bed.requests() > without, "source {is_source}, {fault:?}: nothing had to be asked again");
            });
        }
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_is_stopped_in_any_phase_within_five_seconds_and_leaves_no_trace() {
    let mut runs = tokio::task::JoinSet::new();
    for (is_source, on, at) in [
        (true, Kind::ManifestGet, "/v1"),
        (true, Kind::ManifestGet, ".sig"),
        (true, Kind::BlobGet, ""),
        (false, Kind::ManifestHead, ""),
        (false, Kind::UploadPost, ""),
        (false, Kind::UploadPut, ""),
        (false, Kind::ManifestPut, "sha256:"),
        (false, Kind::ManifestGet, ""),
    ] {
        runs.spawn(async move {
            let route = signed().await;
            let bed = if is_source { &route.source } else { &route.sink };
            bed.clear_log();
            bed.fault(Fault::always(on, What::Delay(Duration::from_secs(20))).at(at));
            let mut command = verified(&route, &route.to());
            let piped = std::process::Stdio::piped;
            let child = command.stdout(piped()).stderr(piped()).kill_on_drop(true).spawn().unwrap();
            let pid = child.id().unwrap().to_string();
            let is_there = || bed.log().iter().any(|seen| seen.kind == on && seen.path.contains(at));
            let begun = std::time::Instant::now();
            while !is_there() {
                assert!(begun.elapsed() < Duration::from_secs(30), "{on:?} {at}: never asked for");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            let done = tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await;
            let done = done.unwrap_or_else(|_| panic!("{on:?} {at}: still running after five seconds")).unwrap();
            assert_code(&done, 130);
            assert!(text(&done).contains("the destination tag was not moved"), "{}", text(&done));
            assert_eq!((route.tagged().await, route.written()), (None, 0), "{on:?} {at}");
            // The server may handle the last request a moment later.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let open = std::fs::read_dir(route.sink.data_dir().join("uploads")).unwrap().count();
            assert_eq!(open, 0, "{on:?} {at}: uploads left open");
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}
