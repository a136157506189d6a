//! Tokens during a run: how often they are fetched, by which client, and the handling of expiry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use autonomy_registry::error::Kind;
use autonomy_registry::retry::Retry;
use autonomy_registry::serve::testkit::{Fault, Kind as Asks, What};
use autonomy_registry::wire::{Client, ClientOptions, Request, Scopes};
use http::Method;
use testkit::images;

use super::{PASSWORD, Person, USER, auths, bearer, guarded, open_source};
use crate::kit::command::{assert_code, publisher};
use crate::kit::wire_server::{Asked, Server, answer, client, options, status};

const PACKED: &str = "cm9ib3Q6Y29ycmVjdDpob3JzZQ==";

fn get(scopes: Scopes) -> Request {
    Request::new(Method::GET, "/v2/a/x", "get", "it").needing(scopes)
}

async fn ask(client: &Client, host: &str) -> autonomy_registry::Result<()> {
    client.host(host, "a").send(&get(Scopes::pull("a"))).await?.expect(&[200]).await.map(drop)
}

/// A registry with its token service. Tokens claim a lifetime of `life` seconds; each is valid while the newest number is
/// less than `spread` ahead.
async fn numbered(life: u32, spread: u32) -> Server {
    let issued = Arc::new(AtomicU32::new(0));
    Server::start(move |asked: &Asked| {
        if asked.is("GET /token") {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            return answer(200, &[], format!(r#"{{"token":"{number}","expires_in":{life}}}"#));
        }
        let newest = issued.load(Ordering::SeqCst);
        let number = asked.header("authorization").and_then(|login| login.strip_prefix("Bearer ")?.parse::<u32>().ok());
        match number {
            Some(number) if newest - number < spread => answer(200, &[], "ok"),
            _ => {
                let realm = format!("http://{}/token", asked.header("host").unwrap());
                let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:a:pull\"");
                answer(401, &[("www-authenticate", &challenge)], "{}")
            }
        }
    })
    .await
}

fn count(lines: &[String], start: &str) -> usize {
    lines.iter().filter(|line| line.starts_with(start)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_outlives_many_tokens_of_one_second() {
    let (open, person) = (open_source().await, Person::new());
    let store = publisher(&open, "long");
    let sizes: Vec<u64> = (1000..1028).collect();
    let root = images::two_platforms(&store, 5, &sizes).await;
    images::tag(&store, &root, "v1").await;
    let (source, sink) = (guarded(bearer(Duration::from_secs(1))).await, guarded(bearer(Duration::from_secs(1))).await);
    person.write("auth.json", &auths(&[(source.host(), PACKED), (sink.host(), PACKED)]));
    let authfile = person.path("auth.json");
    let more = ["--authfile", authfile.to_str().unwrap(), "--jobs", "1"];
    let reference = |host: &str| format!("{host}/long:v1");
    assert_code(&person.seed(&reference(open.host()), &reference(source.host()), &more).await, 0);

    source.clear_log();
    // Longer than the rest of a token's life after some use, shorter than a fresh token's.
    source.fault(Fault::always(Asks::BlobGet, What::Delay(Duration::from_millis(400))));
    let begun = Instant::now();
    assert_code(&person.seed(&reference(source.host()), &reference(sink.host()), &more).await, 0);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(5), "{took:?} are not many tokens");
    for bed in [&source, &sink] {
        let log = bed.log();
        let refused = log.iter().filter(|seen| seen.status == 401).count();
        let tokens = bed.count(Asks::Token);
        // One new token per expiry, no matter how many requests wait or were refused; and one more for each scope.
        let most = usize::try_from(took.as_millis() / 900).unwrap() + 3;
        assert!(
            (3..=most).contains(&tokens),
            "{tokens} tokens in {took:?}, {refused} refusals, {} requests",
            log.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_waits_gets_the_one_new_token() {
    let server = numbered(1, 1).await;
    let client = client();
    ask(&client, &server.host).await.unwrap();
    assert_eq!(server.lines().len(), 3);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let host = server.host.clone();
    let all = (0..16).map(|_| (client.clone(), host.clone()));
    let all: Vec<_> = all.map(|(client, host)| tokio::spawn(async move { ask(&client, &host).await })).collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    let lines = server.lines();
    assert_eq!((count(&lines, "GET /token"), lines.len()), (1, 17), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_early_costs_one_refusal_and_is_fetched_once_for_all() {
    let server = numbered(3600, 1).await;
    let client = client();
    ask(&client, &server.host).await.unwrap();
    // Another client fetches a token, which ends the one held here.
    let other = crate::kit::wire_server::client();
    ask(&other, &server.host).await.unwrap();
    server.asked();
    let all: Vec<_> = (0..16)
        .map(|_| (client.clone(), server.host.clone()))
        .map(|(client, host)| tokio::spawn(async move { ask(&client, &host).await }))
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    let lines = server.lines();
    assert_eq!(count(&lines, "GET /token"), 1, "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_the_token_service_is_shared_by_all_who_wait_for_it() {
    let server = Server::start(|asked: &Asked| {
        if asked.is("GET /token") {
            std::thread::sleep(Duration::from_millis(300));
            return status(403);
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], "")
    })
    .await;
    let client = client();
    assert_eq!(ask(&client, &server.host).await.unwrap_err().kind(), Kind::Denied);
    server.asked();
    let all: Vec<_> = (0..16)
        .map(|_| (client.clone(), server.host.clone()))
        .map(|(client, host)| tokio::spawn(async move { ask(&client, &host).await }))
        .collect();
    for one in all {
        assert_eq!(one.await.unwrap().unwrap_err().kind(), Kind::Denied);
    }
    let lines = server.lines();
    assert!(count(&lines, "GET /token") <= 2, "{lines:?}");
}

#[tokio::test]
async fn a_challenge_does_not_widen_what_a_token_is_asked_for() {
    for challenged in ["repository:other:pull", "repository:a:pull,push,delete", "repository:a:*", "registry:catalog:*"]
    {
        let server = Server::start(move |asked: &Asked| {
            let realm = format!("http://{}/token", asked.header("host").unwrap());
            match asked.header("authorization") {
                _ if asked.is("GET /token") => answer(200, &[], r#"{"token":"t"}"#),
                Some("Bearer t") => answer(200, &[], "ok"),
                _ => answer(
                    401,
                    &[("www-authenticate", &format!("Bearer realm=\"{realm}\",scope=\"{challenged}\""))],
                    "",
                ),
            }
        })
        .await;
        ask(&client(), &server.host).await.unwrap();
        let lines = server.lines();
        assert_eq!((lines.len(), lines[1].as_str()), (3, "GET /token?scope=repository%3Aa%3Apull"), "{challenged}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_asks_for_no_rights_whatever_the_challenge_names() {
    let server = Server::start(|asked: &Asked| {
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:user/image:pull\"");
        match asked.header("authorization") {
            Some(_) if asked.is("GET /token") => answer(200, &[], r#"{"token":"t"}"#),
            Some("Bearer t") => answer(200, &[], "{}"),
            _ => answer(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    assert_code(&Person::new().login(&server.host, PASSWORD, &[]).await, 0);
    let lines = server.lines();
    let token = lines.iter().find(|line| line.starts_with("GET /token")).unwrap();
    assert!(!token.contains("scope") && token.contains("service=s"), "{lines:?}");
}

#[tokio::test]
async fn a_token_in_the_file_is_shown_to_its_registry_and_no_service_is_asked() {
    let server = Server::start(|asked: &Asked| {
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        match asked.header("authorization") {
            Some("Bearer given") => answer(200, &[], "ok"),
            _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], ""),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let with = |token: &str| {
        let path = dir.path().join("auth.json");
        std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"registrytoken":"{token}"}}}}}}"#, server.host)).unwrap();
        Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap()
    };
    let right = with("given");
    for requests in [2, 1] {
        ask(&right, &server.host).await.unwrap();
        assert_eq!(count(&server.lines(), "GET /v2/"), requests);
    }
    assert_eq!(ask(&with("over"), &server.host).await.unwrap_err().kind(), Kind::Denied);
    let lines = server.lines();
    assert_eq!((lines.len(), count(&lines, "GET /v2/")), (2, 2), "{lines:?}");
}

#[tokio::test]
async fn a_token_service_on_another_host_sees_the_password_and_the_registry_sees_the_token() {
    let realm = Server::start(|asked: &Asked| match asked.header("authorization") {
        Some(login) if login == format!("Basic {PACKED}") => answer(200, &[], r#"{"token":"t"}"#),
        _ => status(401),
    })
    .await;
    let at = format!("http://{}/token", realm.host);
    let registry = Server::start(move |asked: &Asked| match asked.header("authorization") {
        Some("Bearer t") => answer(200, &[], "ok"),
        _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{at}\",service=\"s\""))], ""),
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    std::fs::write(&path, auths(&[(&registry.host, PACKED)])).unwrap();
    let client = Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap();
    ask(&client, &registry.host).await.unwrap();
    let logins = |server: &Server| -> Vec<_> {
        server.asked().iter().map(|asked| asked.header("authorization").map(str::to_owned)).collect()
    };
    assert_eq!(logins(&registry), [None, Some("Bearer t".to_owned())]);
    assert_eq!(logins(&realm), [Some(format!("Basic {PACKED}"))]);
    // Logins for the token service's own host are not used: the registry's are.
    assert!(realm.lines().is_empty() && registry.lines().is_empty());
    let _ = (USER, PASSWORD);
}

#[tokio::test]
async fn an_identity_token_that_was_replaced_is_not_shown_again() {
    let issued = Arc::new(AtomicU32::new(0));
    let server = Server::start(move |asked: &Asked| {
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        if asked.is("POST /token") {
            let number = issued.fetch_add(1, Ordering::SeqCst);
            return match body.contains(&format!("refresh_token=r{number}")) {
                true => answer(
                    200,
                    &[],
                    format!(r#"{{"access_token":"t","refresh_token":"r{}","expires_in":1}}"#, number + 1),
                ),
                false => answer(400, &[], r#"{"error":"invalid_grant"}"#),
            };
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        match asked.header("authorization") {
            Some("Bearer t") => answer(200, &[], "ok"),
            _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], ""),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    std::fs::write(&path, format!(r#"{{"auths":{{"{}":{{"identitytoken":"r0"}}}}}}"#, server.host)).unwrap();
    let client = Client::new(ClientOptions { authfile: Some(path), ..options() }).unwrap();
    for _ in 0..3 {
        ask(&client, &server.host).await.unwrap();
        tokio::time::sleep(Duration::from_millis(950)).await;
    }
    assert_eq!(count(&server.lines(), "POST /token"), 3);
}

#[tokio::test]
async fn a_password_that_was_changed_meanwhile_is_read_from_its_file() {
    let accepted = Arc::new(AtomicU32::new(1));
    let now = Arc::clone(&accepted);
    let server = Server::start(move |asked: &Asked| {
        let right = ["", "Basic dTox", "Basic dToy"][now.load(Ordering::SeqCst) as usize];
        match asked.header("authorization") {
            Some(login) if login == right => answer(200, &[], "ok"),
            _ => answer(401, &[("www-authenticate", "Basic")], ""),
        }
    })
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("auth.json");
    std::fs::write(&path, auths(&[(&server.host, "dTox")])).unwrap();
    let client = Client::new(ClientOptions { authfile: Some(path.clone()), ..options() }).unwrap();
    ask(&client, &server.host).await.unwrap();
    accepted.store(2, Ordering::SeqCst);
    assert_eq!(ask(&client, &server.host).await.unwrap_err().kind(), Kind::Denied);
    std::fs::write(&path, auths(&[(&server.host, "dToy")])).unwrap();
    server.asked();
    ask(&client, &server.host).await.unwrap();
    assert_eq!(server.lines().len(), 2);
}

#[tokio::test]
async fn times_that_nobody_can_read_do_not_spoil_a_token() {
    for times in [
        r#""expires_in":"300""#,
        r#""expires_in":null,"issued_at":"""#,
        r#""issued_at":7,"expires_in":-1"#,
        r#""expires_in":0"#,
    ] {
        let body = format!(r#"{{"token":"","access_token":"t",{times}}}"#);
        let server = Server::start(move |asked: &Asked| {
            let realm = format!("http://{}/token", asked.header("host").unwrap());
            match asked.header("authorization") {
                _ if asked.is("GET /token") => answer(200, &[], body.clone()),
                Some("Bearer t") => answer(200, &[], "ok"),
                _ => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], ""),
            }
        })
        .await;
        let client = client();
        for _ in 0..3 {
            ask(&client, &server.host).await.unwrap();
        }
        assert_eq!(count(&server.lines(), "GET /token"), 1, "{times}");
    }
}

/// A registry whose token service begins with `damaged` answers of this text.
async fn damaged(text: &'static str, damaged: u32) -> Server {
    let asked_for = Arc::new(AtomicU32::new(0));
    Server::start(move |asked: &Asked| {
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        match asked.header("authorization") {
            Some("Bearer t") => answer(200, &[], "ok"),
            _ if !asked.is("GET /token") => {
                answer(401, &[("www-authenticate", &format!("Bearer realm=\"{realm}\""))], "")
            }
            _ if asked_for.fetch_add(1, Ordering::SeqCst) < damaged => answer(200, &[], text),
            _ => answer(200, &[], r#"{"token":"t","expires_in":300}"#),
        }
    })
    .await
}

#[tokio::test]
async fn an_invalid_token_is_requested_once_more_only() {
    for text in [r#"{"token":"t"#, r#"z"token":"t"}"#, r#"{"tojen":"t"}"#, r#"{"token":""}"#, "<html>log in</html>", ""]
    {
        let server = damaged(text, 1).await;
        let client = client();
        for _ in 0..2 {
            ask(&client, &server.host).await.unwrap();
        }
        let lines = server.lines();
        assert_eq!((count(&lines, "GET /token"), lines.len()), (2, 5), "{text}: {lines:?}");
        assert_eq!(client.tally()[&server.host].retries, 1, "{text}");

        let server = damaged(text, u32::MAX).await;
        let error = ask(&crate::kit::wire_server::client(), &server.host).await.unwrap_err();
        assert!(error.kind() == Kind::Invalid && error.chain().ends_with("is not a token"), "{}", error.chain());
        assert_eq!(count(&server.lines(), "GET /token"), 2, "{text}");
    }
    let server = damaged("", u32::MAX).await;
    let never = Client::new(ClientOptions { retry: Retry::never(), ..options() }).unwrap();
    assert_eq!(ask(&never, &server.host).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(count(&server.lines(), "GET /token"), 1, "whoever tries nothing twice does not try this twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_asks_for_a_token_with_the_rights_for_both_repositories() {
    let (open, person) = (open_source().await, Person::new());
    let store = publisher(&open, "other");
    // The same layers under another name.
    let root = images::two_platforms(&store, 1, &[1000, 2000]).await;
    images::tag(&store, &root, "v1").await;
    let sink = guarded(bearer(Duration::from_secs(300))).await;
    person.write("auth.json", &auths(&[(sink.host(), PACKED)]));
    let entry = |name: &str| format!("  - from: {}/{name}:v1\n    to: {}/{name}:v1\n", open.host(), sink.host());
    person.write("catalog.yaml", &format!("version: 1\nentries:\n{}{}", entry("app"), entry("other")));
    let (catalog, authfile, out) = (person.path("catalog.yaml"), person.path("auth.json"), person.path("out"));
    let paths = [&catalog, &authfile, &out].map(|path| path.to_str().unwrap().to_owned());
    let fixed = ["registry", "seed-catalog", "--allow-insecure-registry", "--skip-verify", "--accessories=none"];
    let named = ["--catalog", &paths[0], "--authfile", &paths[1], "--out", &paths[2]];
    assert_code(&person.run(&[&fixed[..], &named].concat(), "").await, 0);
    let log = sink.log();
    let is_mount = |seen: &&autonomy_registry::serve::testkit::Seen| {
        let (from, to) = if seen.path.contains("/app/") { ("other", "app") } else { ("app", "other") };
        seen.kind == Asks::UploadPost
            && seen.query.contains(&format!("from={from}"))
            && !seen.query.contains(&format!("from={to}"))
    };
    let mounted = log.iter().filter(is_mount).filter(|seen| seen.status == 201).count();
    assert!(mounted >= 4, "{mounted} layers were mounted");
    let wide = |seen: &&autonomy_registry::serve::testkit::Seen| {
        seen.kind == Asks::Token && seen.query.matches("scope=").count() == 2
    };
    assert_eq!(log.iter().filter(wide).count(), 1, "one token for all mounts between the two");
    let refused = log.iter().filter(|seen| seen.status == 401).count();
    assert_eq!(refused, 1, "only the first request is refused: what is wanted is known after that");
}
