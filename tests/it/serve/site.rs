//! `registry serve` as a site runs it: users, files that are read again, the access log, the figures of the disk.

use std::path::Path;
use std::time::{Duration, Instant};

use autonomy_registry::oci::Digest;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::kit::asking::client;
use crate::kit::command::{assert_code, program, text};
use crate::kit::serve_bed::{PATIENCE, Program};

/// Waits until `check` returns something: a signal has no answer.
async fn until<T>(check: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `registry htpasswd` with a password on stdin.
async fn htpasswd(user: &str, password: &str) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, password).unwrap();
    let mut command = program(&["registry", "htpasswd", user, "--password-stdin"]);
    command.stdin(std::fs::File::open(file).unwrap()).output().await.unwrap()
}

#[tokio::test]
async fn a_line_of_htpasswd_lets_its_user_in() {
    let folder = tempfile::tempdir().unwrap();
    let made = htpasswd("ann", "open: sesame\n").await;
    assert_code(&made, 0);
    let line = text(&made);
    assert!(line.starts_with("ann:$2y$") && line.lines().count() == 1, "{line}");
    let users = folder.path().join("users");
    std::fs::write(&users, &line).unwrap();
    let server = Program::start(folder.path(), ["--htpasswd", users.to_str().unwrap()]);
    for (password, status) in [("open: sesame", 200), ("open", 401)] {
        let request = client().get(format!("{}/v2/", server.url)).basic_auth("ann", Some(password));
        assert_eq!(request.send().await.unwrap().status(), status, "{password}");
    }
    for (user, password) in [("*", "x"), ("anonymous", "x"), ("a:b", "x"), ("ann", ""), ("ann", &*"x".repeat(73))] {
        let refused = htpasswd(user, password).await;
        assert_code(&refused, 2);
        assert!(refused.stdout.is_empty() && !text(&refused).contains("xx"), "{}", text(&refused));
    }
}

async fn ready(server: &Program) -> (StatusCode, String) {
    let answer = client().get(format!("{}/readyz", server.url)).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn enters(server: &Program, user: &str) -> bool {
    let request = client().get(format!("{}/v2/", server.url)).basic_auth(user, Some("secret"));
    request.send().await.unwrap().status() == StatusCode::OK
}

#[tokio::test]
async fn a_bad_file_makes_the_server_unready_and_the_users_that_were_stay() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let line = |user| format!("{user}:{}\n", bcrypt::hash("secret", 4).unwrap());
    std::fs::write(&users, line("ann")).unwrap();
    let server = Program::start(folder.path(), ["--htpasswd", users.to_str().unwrap()]);
    assert_eq!(ready(&server).await, (StatusCode::OK, "ok\n".to_owned()));

    std::fs::write(&users, format!("{}bob:plain text\n", line("ann"))).unwrap();
    server.signal("HUP");
    let (status, why) = until(async || Some(ready(&server).await).filter(|(status, _)| *status != 200)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(why.contains(users.to_str().unwrap()) && why.contains("line 2") && !why.contains("plain text"), "{why}");
    assert!(enters(&server, "ann").await && !enters(&server, "bob").await);
    let health = client().get(format!("{}/healthz", server.url)).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK, "it runs");

    std::fs::write(&users, line("bob")).unwrap();
    server.signal("HUP");
    until(async || Some(ready(&server).await).filter(|(status, _)| *status == 200)).await;
    assert!(!enters(&server, "ann").await && enters(&server, "bob").await);
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0), "a hangup has not ended it");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_request_is_a_line_of_the_access_log_and_a_rotated_file_is_left_at_the_signal() {
    let folder = tempfile::tempdir().unwrap();
    let (log, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let server = Program::start(&folder.path().join("data"), ["--access-log", log.to_str().unwrap()]);
    let digest = Digest::sha256(b"layer");
    let blob = format!("{}/v2/team/app/blobs/{digest}", server.url);
    let place = format!("{}/v2/team/app/blobs/uploads/?digest={digest}", server.url);
    let send = async |method: Method, url: &str, body: &'static str| {
        client().request(method, url).body(body).send().await.unwrap().bytes().await.unwrap();
    };
    send(Method::POST, &place, "layer").await;
    send(Method::GET, &blob, "").await;
    send(Method::GET, &format!("{}/v2/team/app/manifests/v9", server.url), "").await;
    let seen = until(async || Some(lines(&log)).filter(|lines| lines.len() == 3)).await;
    let fields = |line: &Value, names: [&str; 7]| names.map(|name| line[name].clone());
    let names = ["client", "user", "method", "repository", "digest", "bytes", "status"];
    let digest = digest.to_string();
    let expected = serde_json::json!([
        ["127.0.0.1", null, "POST", "team/app", digest, 5, 201],
        ["127.0.0.1", null, "GET", "team/app", digest, 5, 200],
        ["127.0.0.1", null, "GET", "team/app", null],
    ]);
    for (line, expected) in seen.iter().zip(expected.as_array().unwrap()) {
        let expected = expected.as_array().unwrap();
        assert_eq!(fields(line, names)[..expected.len()], expected[..], "{line}");
        assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    }
    assert_eq!((&seen[2]["tag"], &seen[2]["status"]), (&"v9".into(), &404.into()));

    std::fs::rename(&log, &old).unwrap();
    server.signal("HUP");
    until(async || log.exists().then_some(())).await;
    send(Method::GET, &blob, "").await;
    until(async || Some(lines(&log)).filter(|lines| lines.len() == 1)).await;
    assert_eq!(lines(&old).len(), 3);
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_access_log_that_cannot_be_opened_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let done =
        program(&["registry", "serve", "--port", "0", "--data-dir", data, "--access-log", "/nonexistent/log"]).output();
    let done = done.await.unwrap();
    assert_code(&done, 1);
    assert!(text(&done).contains("open the access log /nonexistent/log"), "{}", text(&done));
}

#[tokio::test]
async fn the_metrics_have_the_repositories_and_the_space_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let server = Program::start(folder.path(), [""; 0]);
    for name in ["a", "team/b"] {
        let place = format!("{}/v2/{name}/blobs/uploads/?digest={}", server.url, Digest::sha256(b"x"));
        assert_eq!(client().post(place).body("x").send().await.unwrap().status(), 201);
    }
    let text = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let value = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("autonomy_registry_repositories "), 2);
    let (free, size) = (value("autonomy_registry_disk_free_bytes "), value("autonomy_registry_disk_size_bytes "));
    assert!(0 < free && free < size, "{text}");
}

#[tokio::test]
async fn port_is_short_for_an_address_of_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_autonomy"));
    command.args(["registry", "serve", "--data-dir", data, "--port", "0"]).env("AUTONOMY_LISTEN", "0.0.0.0:0");
    let server = Program::run(command);
    assert!(server.url.starts_with("http://127.0.0.1:"), "the flag wins over the variable: {}", server.url);
    let done = program(&["registry", "serve", "--data-dir", data, "--port", "1", "--listen", "127.0.0.1:1"]).output();
    assert_code(&done.await.unwrap(), 2);
}
