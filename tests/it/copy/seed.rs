//! `autonomy registry seed`, the whole program, between embedded registries that count and fail on demand.

use autonomy_registry::oci::{Descriptor, Digest, Manifest, MediaType, Reference};
use autonomy_registry::serve::testkit::{Fault, Kind, Testbed, What};
use autonomy_registry::serve::{Profile, ServerAuth};
use autonomy_registry::store::{Registry, Role, read_manifest};
use autonomy_registry::wire::{Client, ClientOptions};
use reqwest::Method;
use testkit::images;
use testkit::images::shape;

use crate::kit::asking::Asking;
use crate::kit::command::{SHORT_WAIT, assert_code, autonomy, each_at_once, publisher, seed, seeding, text};
use crate::kit::route::Route;
use crate::kit::site_bed::behaviours;

/// From an image of two platforms with three layers each to a registry of this profile.
async fn route_to(sink: Profile) -> Route {
    Route::new(shape::two_platforms(1, &[1000, 2000, 3000]), sink).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_seed_costs_eleven_requests_at_the_source_and_twenty_at_the_destination() {
    let route = route_to(Profile::default()).await;
    assert_code(&route.seed_bare(&[]).await, 0);
    assert_eq!(route.requests(), (11, 20), "{:#?}", route.sink.log());
    assert_eq!(route.tagged().await.unwrap(), route.root.digest);

    let record = std::fs::read_to_string(route.out().join("seed-manifest.json")).unwrap();
    assert!(record.contains("\"source_requests\": 11") && record.contains("\"dest_requests\": 20"), "{record}");
    let lock = std::fs::read_to_string(route.out().join("seed.lock")).unwrap();
    assert_eq!(lock, format!("{}/app@{}\n", route.sink.host(), route.root.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_there_costs_one_request_a_side() {
    let route = route_to(Profile::default()).await;
    assert_code(&route.seed_bare(&[]).await, 0);
    route.clear_logs();
    let again = route.seed_bare(&[]).await;
    assert_code(&again, 0);
    assert_eq!(route.requests(), (1, 1));
    assert!(text(&again).contains("unchanged"), "{}", text(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_that_nothing_is_attached_costs_a_tag_list_and_a_question_a_manifest() {
    let route = route_to(Profile::default()).await;
    assert_code(&route.seed(&["--skip-verify"]).await, 0);
    assert_eq!(route.requests(), (11 + 1 + 3, 20), "{:#?}", route.source.log());
    route.clear_logs();
    assert_code(&route.seed(&["--skip-verify", "--accessories", "root"]).await, 0);
    assert_eq!(route.requests(), (1 + 1 + 1, 1), "{:#?}", route.source.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_layer_moves_that_layer_its_configuration_and_the_manifests() {
    let route = route_to(Profile::default()).await;
    assert_code(&route.seed_bare(&[]).await, 0);
    let changed = images::with_one_layer_changed(&publisher(&route.source, "app"), 1, &[1000, 2000, 3000]).await;
    images::tag(&publisher(&route.source, "app"), &changed, "v1").await;
    route.clear_logs();
    assert_code(&route.seed_bare(&[]).await, 0);
    // One of them reads the tag once more, right before it moves.
    assert_eq!(route.requests(), (4, 11));
    assert_eq!(route.source.count(Kind::BlobGet), 2, "the layer and the configuration");
    assert_eq!(route.source.count(Kind::ManifestGet), 2, "the index and the changed manifest");
    assert_eq!(route.sink.count(Kind::UploadPut), 2);
    assert_eq!(route.sink.count(Kind::UploadPost), 2, "nothing that the former image shows is asked for");
    assert_eq!(route.tagged().await.unwrap(), changed.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_the_destination_has_lost_under_the_former_image_is_put_again() {
    for behaviour in behaviours() {
        let route = route_to(behaviour.clone()).await;
        assert_code(&route.seed_bare(&[]).await, 0);
        let changed = images::with_one_layer_changed(&publisher(&route.source, "app"), 1, &[1000, 2000, 3000]).await;
        images::tag(&publisher(&route.source, "app"), &changed, "v1").await;
        let lost = layers(&route.source, "app", &changed).await;
        let asking = Asking::of(&route.sink, "app");
        for layer in &lost {
            asking.send(Method::DELETE, &format!("blobs/{layer}"), &[], b"").await;
        }
        let done = route.seed_bare(&[]).await;
        assert_code(&done, 0);
        assert!(text(&done).contains("asking for every node"), "{behaviour:?}: {}", text(&done));
        assert_eq!(route.tagged().await.unwrap(), changed.digest);
        for layer in lost {
            assert_eq!(asking.get(&format!("blobs/{layer}")).await.status(), 200, "{behaviour:?}: {layer}");
        }
    }
}

/// The layers of all platforms of an index.
async fn layers(bed: &Testbed, path: &str, index: &Descriptor) -> Vec<Digest> {
    let store = publisher(bed, path);
    let mut layers = Vec::new();
    let index = read_manifest(&store, index).await.unwrap();
    for child in Manifest::parse(&index, &MediaType::OCI_INDEX).unwrap().children() {
        let image = read_manifest(&store, child).await.unwrap();
        let image = Manifest::parse(&image, &child.media_type).unwrap();
        layers.extend(image.children().map(|node| node.digest));
    }
    layers
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_source_ends_in_exit_4_with_nothing_tagged_and_nothing_written() {
    for (on, what) in [
        (Kind::BlobGet, What::FlipBit { at: 5 }),
        (Kind::BlobGet, What::Truncate { to: 7 }),
        (Kind::BlobGet, What::WrongLength),
        (Kind::BlobGet, What::CutBody { after: 3 }),
        (Kind::ManifestGet, What::FlipBit { at: 30 }),
        (Kind::ManifestGet, What::Truncate { to: 30 }),
    ] {
        let route = route_to(Profile::default()).await;
        route.source.fault(Fault::always(on, what.clone()));
        let done = route.seed(&["--skip-verify"]).await;
        assert_code(&done, 4);
        assert!(text(&done).contains("source"), "the side is named: {}", text(&done));
        assert_eq!((route.tagged().await, route.written()), (None, 0), "{on:?} {what:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_on_the_way_is_mended_by_fetching_again() {
    for (on, what) in [
        (Kind::BlobGet, What::FlipBit { at: 5 }),
        (Kind::BlobGet, What::Truncate { to: 7 }),
        (Kind::BlobGet, What::CutBody { after: 3 }),
        (Kind::ManifestGet, What::FlipBit { at: 30 }),
        (Kind::ManifestGet, What::CutBody { after: 30 }),
    ] {
        let route = route_to(Profile::default()).await;
        route.source.fault(Fault::next(on, what.clone()));
        let done = route.seed(&["--skip-verify"]).await;
        assert_code(&done, 0);
        assert_eq!(route.tagged().await.unwrap(), route.root.digest, "{on:?} {what:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_of_any_request_is_survived() {
    let reading = [Kind::ManifestGet, Kind::BlobGet];
    let writing = [Kind::ManifestHead, Kind::UploadPost, Kind::UploadPut, Kind::ManifestPut];
    let places: Vec<_> = reading.map(|on| (true, on)).into_iter().chain(writing.map(|on| (false, on))).collect();
    for what in [What::Status(503), What::StatusWith { status: 429, retry_after: Some("1".into()) }, What::ResetBefore]
    {
        each_at_once(&places, async |&(is_source, on)| {
            let route = route_to(Profile::default()).await;
            let bed = if is_source { &route.source } else { &route.sink };
            bed.fault(Fault::next(on, what.clone()));
            let done = route.seed(&["--skip-verify"]).await;
            assert_code(&done, 0);
            assert_eq!(route.tagged().await.unwrap(), route.root.digest, "{on:?} {what:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_input_gets_one_clear_line_and_the_right_exit_code() {
    let route = route_to(Profile::default()).await;
    let home = tempfile::tempdir().unwrap();
    let (from, to) = (route.from(), route.to());
    let out = route.out().to_str().unwrap().to_owned();
    let no_key = home.path().join("none.pub").to_str().unwrap().to_owned();
    let no_pem = home.path().join("text.pub");
    std::fs::write(&no_pem, "hello").unwrap();
    let no_pem = no_pem.to_str().unwrap().to_owned();
    let no_tag = format!("{}/app:v9", route.source.host());
    let no_repository = format!("{}/nowhere:v1", route.source.host());
    let insecure = "--allow-insecure-registry";
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--from", &from, "--to", &to, insecure], 2, "registry seed requires --pub-key or --skip-verify"),
        (&["--from", &from, "--to", &to, insecure, "--skip-verify", "--pub-key", &no_key], 2, "cannot be used with"),
        (
            &["--from", &from, "--from", &from, "--to", &to, insecure, "--skip-verify"],
            2,
            "cannot be used multiple times",
        ),
        (&["--from", "nginx", "--to", &to, insecure, "--skip-verify"], 2, "docker.io/library/nginx:latest"),
        (&["--from", "docker://a.example/b:c", "--to", &to, "--skip-verify"], 2, "a.example/b:c"),
        (&["--from", "a.example/UPPER:c", "--to", &to, "--skip-verify"], 2, "not a repository name"),
        (&["--from", &from, "--to", &to, insecure, "--pub-key", &no_key], 2, "none.pub"),
        (&["--from", &from, "--to", &to, insecure, "--pub-key", &no_pem], 2, "text.pub"),
        (&["--from", &from, "--to", &to, "--skip-verify"], 2, "plain-HTTP registry refused"),
        (&["--from", &no_tag, "--to", &to, insecure, "--skip-verify"], 4, "resolve manifest digest"),
        (&["--from", &no_repository, "--to", &to, insecure, "--skip-verify"], 4, "resolve manifest digest"),
        (&["--from", "127.0.0.1:1/app:v1", "--to", &to, insecure, "--skip-verify"], 4, "127.0.0.1:1"),
        (&["--from", "no-such-host.invalid/app:v1", "--to", &to, insecure, "--skip-verify"], 4, "no-such-host.invalid"),
        (&["--from", &from, "--to", &to, insecure, "--skip-verify", "--out", "/proc/nowhere"], 2, "--out"),
        (&["--from", &from, "--to", &to, insecure, "--skip-verify", "--transport", "carrier-pigeon"], 2, "native"),
        (&["--from", &from, "--to", &format!("{to}@{}", route.root.digest), insecure, "--skip-verify"], 2, "tag"),
    ];
    for (arguments, code, says) in cases {
        let mut all = vec!["registry", "seed"];
        if !arguments.contains(&"--out") {
            all.extend(["--out", &out]);
        }
        all.extend(*arguments);
        all.extend(SHORT_WAIT);
        let done = autonomy(&all).await;
        assert_code(&done, *code);
        assert!(text(&done).contains(says), "{arguments:?} says {says:?}: {}", text(&done));
        assert_eq!((route.tagged().await, route.written()), (None, 0), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_source_needs_a_tag_to_go_to_and_has_no_sidecars() {
    let route = route_to(Profile::default()).await;
    let pinned = format!("{}/app@{}", route.source.host(), route.root.digest);
    let no_tag = format!("{}/app", route.sink.host());
    let out = &route.out();
    assert_code(&seed(&pinned, &no_tag, out, &["--skip-verify"]).await, 2);
    let sidecars = seed(&pinned, &route.to(), out, &["--skip-verify", "--copy-policy"]).await;
    assert_code(&sidecars, 2);
    assert!(text(&sidecars).contains("--copy-policy requires tag-based --from and --to"));
    assert_code(&seed(&pinned, &route.to(), out, &["--skip-verify"]).await, 0);
    assert_eq!(route.tagged().await.unwrap(), route.root.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_travel_on_request_and_their_absence_is_only_a_warning() {
    let route = route_to(Profile::default()).await;
    let absent = route.seed(&["--skip-verify", "--copy-policy"]).await;
    assert_code(&absent, 0);
    assert!(text(&absent).contains("sidecar not replicated"), "{}", text(&absent));

    let store = publisher(&route.source, "app");
    let lock = images::sidecar(&store, &route.root, "application/vnd.autonomyops.lock.v1+json", b"{}").await;
    images::tag(&store, &lock, "v1-lock").await;
    let present = route.seed(&["--skip-verify", "--copy-policy"]).await;
    assert_code(&present, 0);
    assert_eq!(route.arrived("v1-lock").await.unwrap().node.digest, lock.digest);
    let record = std::fs::read_to_string(route.out().join("seed-manifest.json")).unwrap();
    assert!(record.contains("\"copied_policy\": true"), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_seed_leaves_the_tag_and_no_upload() {
    let route = route_to(Profile::default()).await;
    route.source.fault(Fault::always(Kind::BlobGet, What::Delay(std::time::Duration::from_secs(20))));
    let mut command = seeding(&route.from(), &route.to(), &route.out(), &["--skip-verify"]);
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    while route.source.count(Kind::BlobGet) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(std::time::Duration::from_secs(5), child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(130));
    assert_eq!((route.tagged().await, route.written()), (None, 0));
    assert_eq!(route.sink.count(Kind::UploadDelete), route.sink.count(Kind::UploadPost), "every session is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_login_gets_one_token_and_no_ping() {
    let login = Some(("robot".to_owned(), "secret".to_owned()));
    let auth = ServerAuth::Bearer { login, expires_in: std::time::Duration::from_secs(300) };
    let source = Testbed::with(Profile { auth, ..Profile::default() }).await;
    let sink = Testbed::start().await;
    let home = tempfile::tempdir().unwrap();
    let authfile = home.path().join("auth.json");
    let login = format!(r#"{{"auths":{{"{}":{{"auth":"cm9ib3Q6c2VjcmV0"}}}}}}"#, source.host());
    std::fs::write(&authfile, login).unwrap();
    let out = tempfile::tempdir().unwrap();
    let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
    let client = Client::new(ClientOptions {
        allow_plain_http: true,
        authfile: Some(authfile.clone()),
        ..ClientOptions::default()
    });
    let reference: Reference = from.parse().unwrap();
    let store = Registry::new(&client.unwrap(), &reference.repository, Role::Sink);
    let root = images::two_platforms(&store, 1, &[1000, 2000, 3000]).await;
    images::tag(&store, &root, "v1").await;

    let denied = seed(&from, &to, out.path(), &["--skip-verify"]).await;
    assert_code(&denied, 4);
    assert!(!text(&denied).contains("secret"));
    source.clear_log();
    let done = seed(
        &from,
        &to,
        out.path(),
        &["--skip-verify", "--accessories=none", "--authfile", authfile.to_str().unwrap()],
    )
    .await;
    assert_code(&done, 0);
    assert_eq!((source.count(Kind::Token), source.count(Kind::Ping)), (1, 0));
    assert_eq!(source.requests(), 11 + 2, "the refused request and the token on top");
}
