//! Credential helpers of the user: called, named in the error if they fail, and killed if they hang.

use std::time::{Duration, Instant};

use autonomy_registry::serve::ServerAuth;
use serde_json::Value;

use super::{PASSWORD, Person, USER, basic, bearer, guarded, open_source};
use crate::kit::command::{assert_code, text};

/// Keeps one login in a file of its own.
const KEEPER: &str = r#"echo "$1" >> calls
case "$1" in
store) cat > kept ;;
get) read -r server; if grep -q "\"ServerURL\":\"$server\"" kept; then cat kept; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f kept ;;
esac
"#;

/// Never answers, and has a child that never answers either.
const HANGING: &str = "echo $$ >> calls\nsleep 600 &\necho $! >> calls\nwait\n";

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether every process that the hanging helper started ends soon.
async fn is_all_gone(person: &Person) -> bool {
    let calls = person.read("calls");
    for _ in 0..100 {
        if !calls.lines().any(is_running) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_the_file_names_keeps_gives_and_forgets_the_login() {
    let source = open_source().await;
    for named_by in ["credsStore", "credHelpers"] {
        let (person, sink) = (Person::new(), guarded(basic()).await);
        let value = match named_by {
            "credsStore" => serde_json::json!({ "credsStore": "keeper" }),
            _ => serde_json::json!({ "credHelpers": { sink.host(): "keeper" } }),
        };
        person.write(".docker/config.json", &value.to_string());
        person.helper("keeper", KEEPER);
        let done = person.login(sink.host(), PASSWORD, &[]).await;
        assert_code(&done, 0);
        assert!(text(&done).contains("docker-credential-keeper") && done.stderr.is_empty(), "{}", text(&done));
        assert!(person.read("kept").contains(PASSWORD));
        let config: Value = serde_json::from_str(&person.config()).unwrap();
        assert_eq!(config["auths"][sink.host()], serde_json::json!({}), "that there is a login, and nothing of it");
        let (from, to) = (format!("{}/app:v1", source.host()), format!("{}/app:v1", sink.host()));
        assert_code(&person.seed(&from, &to, &[]).await, 0);
        assert_code(&person.logout(sink.host(), &[]).await, 0);
        let config: Value = serde_json::from_str(&person.config()).unwrap();
        assert!(!person.path("kept").exists() && config["auths"] == serde_json::json!({}), "{config}");
        assert_eq!(config[named_by], value[named_by]);
        assert_eq!(person.read("calls"), "store\nget\nget\nerase\nget\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_does_not_keep_the_login_leaves_the_file_as_it_was() {
    let (person, bed) = (Person::new(), guarded(basic()).await);
    let before = r#"{"credsStore":"broken"}"#;
    person.write(".docker/config.json", before);
    person.helper("broken", "cat; echo PIN; exit 3");
    for more in [&[][..], &["-vv"]] {
        let done = person.login(bed.host(), PASSWORD, more).await;
        assert_code(&done, 1);
        assert!(text(&done).contains("docker-credential-broken: ends with exit status: 3"), "{}", text(&done));
        assert!(text(&done).contains("--authfile") && !text(&done).contains(PASSWORD), "{}", text(&done));
        assert_eq!(person.config(), before);
    }
    // A helper that reports success and stores nothing is detected.
    person.helper("broken", "cat > /dev/null; [ \"$1\" = store ] || { echo 'credentials not found'; exit 1; }");
    let done = person.login(bed.host(), PASSWORD, &[]).await;
    assert_code(&done, 0);
    assert!(text(&done).contains("warning: what is found for it"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_that_hangs_is_asked_once_ended_and_gone_without() {
    let anonymous = || ServerAuth::Bearer { login: None, expires_in: Duration::from_secs(300) };
    let (source, middle, sink) = (open_source().await, guarded(anonymous()).await, guarded(anonymous()).await);
    let person = Person::new();
    let (from, on, to) =
        (format!("{}/app:v1", source.host()), format!("{}/app:v1", middle.host()), format!("{}/app:v1", sink.host()));
    assert_code(&person.seed(&from, &on, &[]).await, 0);
    person.write(".docker/config.json", r#"{"credsStore":"hang"}"#);
    person.helper("hang", HANGING);
    let begun = Instant::now();
    let done = person.seed(&on, &to, &["--helper-timeout", "1500ms"]).await;
    assert_code(&done, 0);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1500) && took < Duration::from_secs(15), "{took:?}");
    let told = text(&done);
    assert!(told.contains("a credential helper does not work helper=\"hang\" why=no answer within 1.5 s"), "{told}");
    assert_eq!(told.matches("does not work").count(), 1, "{told}");
    assert_eq!(person.read("calls").lines().count(), 2, "both registries wanted a login, and it was run once");
    assert!(is_all_gone(&person).await, "the helper goes on");

    // Where a login is required, the failure names the helper.
    let wanting = guarded(basic()).await;
    let done = person.seed(&from, &format!("{}/app:v1", wanting.host()), &["--helper-timeout", "300ms"]).await;
    assert_code(&done, 4);
    assert!(text(&done).contains("docker-credential-hang (no answer within 0.3 s)"), "{}", text(&done));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_takes_its_helper_along() {
    let (person, source) = (Person::new(), guarded(bearer(Duration::from_secs(300))).await);
    person.write(".docker/config.json", r#"{"credsStore":"hang"}"#);
    person.helper("hang", HANGING);
    let from = format!("{}/app:v1", source.host());
    let mut command = person.command(&["registry", "seed", "--allow-insecure-registry", "--skip-verify"]);
    let child = command.args(["--from", &from, "--to", "127.0.0.1:1/a:v1", "--out"]).arg(person.path("out")).spawn();
    let child = child.unwrap();
    for _ in 0..500 {
        if person.read("calls").lines().count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let done = tokio::time::timeout(Duration::from_secs(5), child.wait_with_output()).await.unwrap().unwrap();
    assert_code(&done, 130);
    assert_eq!(person.read("calls").lines().count(), 2);
    assert!(is_all_gone(&person).await, "the helper goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_helper_whose_answer_was_refused_is_asked_for_a_newer_one() {
    // The token service needs it once for each repository: the login that worked for the first fails for the second.
    let (person, source) = (Person::new(), open_source().await);
    let sink = guarded(bearer(Duration::from_secs(300))).await;
    person.write(".docker/config.json", r#"{"credsStore":"cloud"}"#);
    let script = format!(
        "echo x >> calls\n[ $(wc -l < calls) -gt 1 ] && p='{PASSWORD}' || p=expired\necho '{{\"Username\":\"{USER}\",\"Secret\":\"'\"$p\"'\"}}'\n"
    );
    person.helper("cloud", &script);
    let to = format!("{}/app:v1", sink.host());
    assert_code(&person.seed(&format!("{}/app:v1", source.host()), &to, &[]).await, 0);
    assert_eq!(person.read("calls").lines().count(), 2);
    // A helper that returns the same login again is taken to have no other.
    let person = Person::new();
    person.write(".docker/config.json", r#"{"credsStore":"stuck"}"#);
    person.helper("stuck", "echo x >> calls\necho '{\"Username\":\"u\",\"Secret\":\"expired\"}'\n");
    assert_code(&person.seed(&format!("{}/app:v1", source.host()), &to, &[]).await, 4);
    assert_eq!(person.read("calls").lines().count(), 2);
}
