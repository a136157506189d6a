//! Refusals that a retry does not change, and refusals that say when a retry may succeed.

use autonomy_registry::serve::testkit::{Fault, Kind as Asks, Testbed, What};
use testkit::images;

use crate::kit::command::{self, assert_code, publisher, text};
use crate::kit::wire_server::{Asked, Server, answer};

/// Runs `registry seed` of `from` to `to`, unverified.
async fn seed(from: &str, to: &str) -> std::process::Output {
    let out = tempfile::tempdir().unwrap();
    command::seed(from, to, out.path(), &["--skip-verify"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_room_and_too_large_end_an_image_at_once() {
    let source = Testbed::start().await;
    let store = publisher(&source, "app");
    let root = images::two_platforms(&store, 5, &[200_000]).await;
    images::tag(&store, &root, "v1").await;
    for status in [507, 413] {
        for on in [Asks::UploadPost, Asks::UploadPut, Asks::ManifestPut] {
            let sink = Testbed::start().await;
            sink.fault(Fault::always(on, What::Status(status)));
            let done = seed(&format!("{}/app:v1", source.host()), &format!("{}/app:v1", sink.host())).await;
            assert_code(&done, 4);
            assert!(text(&done).contains(&status.to_string()), "{}", text(&done));
            let refused: Vec<_> = sink.log().into_iter().filter(|seen| seen.status == status).collect();
            let mut places: Vec<_> =
                refused.iter().map(|seen| format!("{:?} {} {}", seen.kind, seen.path, seen.query)).collect();
            let count = places.len();
            places.sort();
            places.dedup();
            assert_eq!(places.len(), count, "{status} at {on:?} was asked for again: {refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_pulls_says_when_and_that_a_login_helps() {
    for (headers, told, times) in [
        (
            &[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600"), ("retry-after", "13800")][..],
            "come back in 3 h 50 min",
            1,
        ),
        (&[("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")], "come back in 6 h", 1),
    ] {
        let headers = headers.to_vec();
        let server = Server::start(move |_: &Asked| {
            let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your unauthenticated pull rate limit."}]}"#;
            answer(429, &headers, body)
        })
        .await;
        let done = seed(&format!("{}/app:v1", server.host), "127.0.0.1:1/app:v1").await;
        assert_code(&done, 4);
        let said = text(&done);
        assert!(said.contains(told) && said.contains("100 requests in 6 h"), "{said}");
        assert!(said.contains(&format!("autonomy registry login {}", server.host)), "{said}");
        assert_eq!(server.lines().len(), times);
    }
}
