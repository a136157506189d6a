//! `registry login` and `registry logout`, the whole program.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use autonomy_registry::serve::testkit::Testbed;
use serde_json::{Value, json};

use super::{PASSWORD, Person, USER, auths, basic, bearer, guarded, open_source};
use crate::kit::command::{assert_code, text};
use crate::kit::wire_server::{Asked, Server, answer, status};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_tried_then_kept_used_and_forgotten() {
    let source = open_source().await;
    for auth in [basic(), bearer(Duration::from_secs(300))] {
        let (person, sink) = (Person::new(), guarded(auth).await);
        let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
        let before = person.seed(&from, &to, &[]).await;
        assert_code(&before, 4);
        assert!(text(&before).contains(&format!("autonomy registry login {}", sink.host())), "{}", text(&before));

        let wrong = person.login(sink.host(), "wrong-horse", &[]).await;
        assert_code(&wrong, 4);
        assert!(text(&wrong).contains("401") && text(&wrong).contains("check the user name"), "{}", text(&wrong));
        assert!(!text(&wrong).contains("wrong-horse") && person.config().is_empty(), "{}", text(&wrong));

        let done = person.login(sink.host(), &format!("{PASSWORD}\r\n"), &[]).await;
        assert_code(&done, 0);
        let told = String::from_utf8(done.stdout).unwrap();
        assert!(told.starts_with(&format!("logged in to {} as {USER}\n", sink.host())), "{told}");
        assert!(told.contains(".docker/config.json") && done.stderr.is_empty(), "{told}");
        let mode = |name| std::fs::metadata(person.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(".docker/config.json"), mode(".docker")), (0o600, 0o700));
        let expected = json!({"auths": {sink.host(): {"auth": "cm9ib3Q6Y29ycmVjdDpob3JzZQ=="}}});
        assert_eq!(serde_json::from_str::<Value>(&person.config()).unwrap(), expected);
        assert_code(&person.seed(&from, &to, &[]).await, 0);

        let out = person.logout(sink.host(), &[]).await;
        assert_code(&out, 0);
        assert_eq!(text(&out), format!("logged out of {}\n", sink.host()));
        let again = person.logout(sink.host(), &[]).await;
        assert_code(&again, 0);
        assert!(text(&again).starts_with(&format!("not logged in to {}", sink.host())), "{}", text(&again));
        assert_code(&person.seed(&from, &to, &[]).await, 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_login_is_refused_before_any_request() {
    let (person, bed) = (Person::new(), guarded(basic()).await);
    let host = bed.host();
    let url = format!("https://{host}/");
    for (arguments, input, says) in [
        (vec!["registry", "login", host, "-u", USER, "--password-stdin"], PASSWORD, "plain-HTTP registry refused"),
        (vec!["registry", "login", host, "--password-stdin"], PASSWORD, "--user"),
        (vec!["registry", "login", host, "-u", USER], PASSWORD, "--password-stdin"),
        (vec!["registry", "login", host, "-u", USER, "--password-stdin"], "", "the password is empty"),
        (vec!["registry", "login", host, "-u", "a:b", "--password-stdin"], PASSWORD, "colon"),
        (vec!["registry", "login", &url, "-u", USER, "--password-stdin"], PASSWORD, host),
        (vec!["registry", "login", "r.example/team", "-u", USER, "--password-stdin"], PASSWORD, "write r.example"),
        (vec!["registry", "logout", "nowhere"], "", "host[:port]"),
    ] {
        let done = person.run(&arguments, input).await;
        assert_code(&done, 2);
        assert!(text(&done).contains(says) && !text(&done).contains(PASSWORD), "{arguments:?}: {}", text(&done));
        assert_eq!((bed.requests(), person.config().as_str()), (0, ""), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_no_registry_gets_no_login() {
    let person = Person::new();
    let page = Server::start(|_: &Asked| status(404)).await;
    let done = person.login(&page.host, PASSWORD, &[]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("is this a registry?"), "{}", text(&done));
    // A server that asks for an unknown scheme gets no credentials.
    let other = Server::start(|_: &Asked| answer(401, &[("www-authenticate", "Negotiate")], "")).await;
    let done = person.login(&other.host, PASSWORD, &[]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("negotiate"), "{}", text(&done));
    assert!(other.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(person.config(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_nobody_is_logged_in_to_with_a_warning() {
    let (person, bed) = (Person::new(), Testbed::start().await);
    let done = person.login(bed.host(), PASSWORD, &["--output", "json"]).await;
    assert_code(&done, 0);
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["checked"], &told["kept"], &told["helper"]), (&json!(false), &json!("password"), &Value::Null));
    assert!(text(&done).contains("warning: ") && text(&done).contains("could not be checked"), "{}", text(&done));
    assert!(bed.log().iter().all(|seen| !seen.has_authorization), "nobody asked for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_is_the_one_that_is_named_and_the_rest_of_it_stays() {
    let (person, bed) = (Person::new(), guarded(basic()).await);
    let flag = person.path("flag/auth.json");
    assert_code(&person.login(bed.host(), PASSWORD, &["--authfile", flag.to_str().unwrap()]).await, 0);
    assert!(person.read("flag/auth.json").contains(bed.host()) && person.config().is_empty());

    let before = "{\n\t\"currentContext\": \"site\",\n\t\"auths\": {\n\t\t\"r.example\": {\n\t\t\t\"auth\": \"dTpw\"\n\t\t}\n\t},\n\t\"plugins\": {\n\t\t\"x\": {\n\t\t\t\"n\": 1.0\n\t\t}\n\t}\n}\n";
    person.write("variable.json", before);
    let mut command = person.command(&["registry", "login", bed.host(), "-u", USER, "--password-stdin"]);
    command.arg("--allow-insecure-registry").env("REGISTRY_AUTH_FILE", person.path("variable.json"));
    assert_code(&super::piped(command, PASSWORD).await, 0);
    let after = person.read("variable.json");
    assert!(after.contains(bed.host()) && after.starts_with("{\n\t\"currentContext\": \"site\""), "{after}");
    let mut command = person.command(&["registry", "logout", bed.host()]);
    command.env("REGISTRY_AUTH_FILE", person.path("variable.json"));
    assert_code(&super::piped(command, "").await, 0);
    assert_eq!(person.read("variable.json"), before, "what is not ours is as it was, to the byte");
    let mut command = person.command(&["registry", "logout", bed.host()]);
    command.env("REGISTRY_AUTH_FILE", person.path("absent"));
    let out = super::piped(command, "").await;
    assert_code(&out, 0);
    assert!(text(&out).starts_with("not logged in") && !person.path("absent").exists(), "{}", text(&out));

    person.write(".docker/config.json", "{\"auths\": 5}");
    let done = person.login(bed.host(), PASSWORD, &[]).await;
    assert_code(&done, 2);
    assert_eq!(person.config(), "{\"auths\": 5}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_another_file_hides_is_told_of() {
    let (person, bed) = (Person::new(), guarded(basic()).await);
    person.write(".config/containers/auth.json", &auths(&[(bed.host(), "b2xkOm9sZA==")]));
    let done = person.login(bed.host(), PASSWORD, &[]).await;
    assert_code(&done, 0);
    let is_told = |text: &str| text.contains("warning: ") && text.contains(".config/containers/auth.json");
    assert!(is_told(&text(&done)), "{}", text(&done));
    let out = person.logout(bed.host(), &[]).await;
    assert_code(&out, 0);
    assert!(text(&out).contains("logged out of") && is_told(&text(&out)), "{}", text(&out));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_that_is_offered_is_kept_in_the_place_of_the_password() {
    let server = Server::start(|asked: &Asked| {
        let host = asked.header("host").unwrap().to_owned();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\"");
        let body = String::from_utf8_lossy(&asked.body).into_owned();
        if asked.is("GET /token") {
            let is_login = asked.header("authorization").is_some() && asked.line.contains("offline_token=true");
            return if is_login {
                answer(200, &[], r#"{"token":"t1","refresh_token":"identity1"}"#)
            } else {
                status(401)
            };
        }
        if asked.is("POST /token") {
            return if body.contains("identity1") { answer(200, &[], r#"{"access_token":"t1"}"#) } else { status(401) };
        }
        match asked.header("authorization") {
            Some("Bearer t1") if asked.is("GET /v2/ ") || asked.line == "GET /v2/" => answer(200, &[], "{}"),
            Some("Bearer t1") => status(404),
            _ => answer(401, &[("www-authenticate", &challenge)], ""),
        }
    })
    .await;
    let person = Person::new();
    let done = person.login(&server.host, PASSWORD, &["--output", "json"]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("identity-token") && !text(&done).contains("identity1"), "{}", text(&done));
    let config: Value = serde_json::from_str(&person.config()).unwrap();
    assert_eq!(config["auths"][&server.host], json!({"auth": "cm9ib3Q6", "identitytoken": "identity1"}));
    server.asked();
    // From now on the token is sent, and the password never: it is not stored any more.
    let seed = person.seed(&format!("{}/a:v1", server.host), "127.0.0.1:1/a:v1", &[]).await;
    assert_code(&seed, 4);
    let lines = server.lines();
    assert!(lines.iter().any(|line| line.starts_with("POST /token")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("GET /token")), "{lines:?}");
}
