use super::*;
use std::fs;

const HUB: &str = "registry-1.docker.io";
const LIMIT: Duration = Duration::from_secs(20);

fn keychain(file: PathBuf) -> Keychain {
    Keychain::new(Some(file), &Environment::default(), LIMIT)
}

fn password(user: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Password { user: user.into(), password: password.into() })
}

async fn look(text: &str, host: &str, path: &str) -> Result<Option<Credentials>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    fs::write(&file, text).unwrap();
    Ok(keychain(file).find(host, path, None).await?.credentials)
}

#[tokio::test]
async fn the_most_specific_key_wins() {
    let text = r#"{"auths":{
        "r.example":{"auth":"aG9zdDox"},
        "r.example/team":{"username":"team","password":"2"},
        "r.example/team/app":{"auth":"YXBwOjM6eA=="},
        "s.example":{"identitytoken":"refresh","auth":"dTpw"}}}"#;
    assert_eq!(look(text, "r.example", "other").await.unwrap(), password("host", "1"));
    assert_eq!(look(text, "r.example", "team/x").await.unwrap(), password("team", "2"));
    assert_eq!(look(text, "r.example", "team/app").await.unwrap(), password("app", "3:x"));
    assert_eq!(look(text, "r.example", "teamwork/app").await.unwrap(), password("host", "1"));
    assert_eq!(look(text, "r.example:5000", "team/app").await.unwrap(), None);
    assert_eq!(look(text, "s.example", "x").await.unwrap(), Some(Credentials::Identity("refresh".into())));
}

#[tokio::test]
async fn older_spellings_of_a_host_are_known() {
    let hub = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"}}}"#;
    assert_eq!(look(hub, HUB, "library/nginx").await.unwrap(), password("u", "p"));
    let url = r#"{"auths":{"https://r.example/v2/":{"auth":"dTpw"}, "https://empty.example":{}, "null.example":null}}"#;
    assert_eq!(look(url, "r.example", "a").await.unwrap(), password("u", "p"));
    assert_eq!(look(url, "empty.example", "a").await.unwrap(), None);
}

#[tokio::test]
async fn files_are_looked_into_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let environment = Environment::of(|name| match name {
        "HOME" => Some(dir.path().join("home")),
        "XDG_RUNTIME_DIR" => Some(dir.path().join("run")),
        _ => None,
    });
    let write = |path: &str, user: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!(r#"{{"auths":{{"r.example":{{"username":"{user}","password":"p"}}}}}}"#)).unwrap();
    };
    let found = async || Keychain::new(None, &environment, LIMIT).find("r.example", "a", None).await.unwrap();
    assert_eq!(found().await.told(), "there are no credentials for r.example");
    for (path, user) in [
        ("home/.docker/config.json", "docker"),
        ("home/.config/containers/auth.json", "podman"),
        ("run/containers/auth.json", "session"),
    ] {
        write(path, user);
        let found = found().await;
        assert_eq!(found.credentials, password(user, "p"));
        assert!(found.told().ends_with(path), "{}", found.told());
    }
}

#[tokio::test]
async fn a_named_file_must_be_there_and_readable_and_errors_show_no_secret() {
    let absent = keychain("/nowhere/auth.json".into());
    assert_eq!(absent.find("r.example", "a", None).await.unwrap_err().kind(), Kind::Usage);
    for wrong in [
        r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#,
        r#"{"auths":{"r.example":{"auth":"!secret"}}}"#,
        r#"{"auths":{"r.example":"secret"}}"#,
        r#"{"auths":{},"credHelpers":{"r.example":7}}"#,
        r#"{"auths":"secret"}"#,
        "secret",
    ] {
        let error = look(wrong, "r.example", "a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{wrong}");
        assert!(!error.chain().contains("secret") && error.chain().contains("auth.json"), "{}", error.chain());
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_spoils_nothing_for_other_registries() {
    for bad in [r#"{"auth":"!!!"}"#, r#"{"auth":"dG9rZW4="}"#, r#"{"auth":5}"#, "7", r#"["x"]"#] {
        let text = format!(
            r#"{{"auths":{{"o.example":{bad},"r.example":{{"auth":"dTpw"}}}},"credHelpers":{{"o.example":null,"p.example":7}}}}"#
        );
        assert_eq!(look(&text, "r.example", "a").await.unwrap(), password("u", "p"), "{bad}");
        let error = look(&text, "o.example", "a").await.unwrap_err();
        assert!(error.kind() == Kind::Usage && error.chain().contains("o.example"), "{}", error.chain());
        assert!(look(&text, "p.example", "a").await.unwrap_err().chain().contains("p.example"));
    }
}

#[tokio::test]
async fn a_login_in_base64_may_be_broken_into_lines() {
    let text = r#"{"auths":{"r.example":{"auth":"dT\r\nox\nMj\tM=\n"}}}"#;
    assert_eq!(look(text, "r.example", "a").await.unwrap(), password("u", "123"));
}

#[tokio::test]
async fn a_registry_token_comes_before_everything_else_of_its_entry() {
    let text = r#"{"auths":{"r.example":{"registrytoken":"t","identitytoken":"i","auth":"dTpw"}}}"#;
    assert_eq!(look(text, "r.example", "a").await.unwrap(), Some(Credentials::Token("t".into())));
}

#[tokio::test]
async fn of_several_spellings_of_a_host_the_plain_one_counts() {
    let text = r#"{"auths":{"https://r.example/v1/":{"auth":"b2xkOm8="},"r.example":{"auth":"bmV3Om4="}}}"#;
    assert_eq!(look(text, "r.example", "a").await.unwrap(), password("new", "n"));
    for empty in ["", " \n", "null", "{}", r#"{"auths":null,"credHelpers":{"r.example":""},"credsStore":""}"#] {
        assert_eq!(look(empty, "r.example", "a").await.unwrap(), None, "{empty:?}");
    }
}

#[tokio::test]
async fn what_was_refused_is_read_again_and_a_file_that_broke_meanwhile_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    let write = |auth: &str| fs::write(&file, format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#)).unwrap();
    write("dTox");
    let keychain = keychain(file.clone());
    let find =
        async |refused: Option<&Credentials>| keychain.find("r.example", "a", refused).await.unwrap().credentials;
    assert_eq!(find(None).await, password("u", "1"));
    write("dToy");
    assert_eq!(find(None).await, password("u", "1"), "read once");
    assert_eq!(find(password("u", "1").as_ref()).await, password("u", "2"));
    fs::write(&file, "{").unwrap();
    assert_eq!(find(password("u", "2").as_ref()).await, password("u", "2"));
}

#[tokio::test]
async fn a_helper_that_is_no_name_is_never_run() {
    for name in ["", "../../bin/sh", "a b", "a/b"] {
        assert!(Helper::named(name, LIMIT, &Surroundings::default()).is_err(), "{name}");
    }
    let text = r#"{"credsStore":"absent-helper-of-this-test","auths":{"r.example":{}}}"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    fs::write(&file, text).unwrap();
    let found = keychain(file).find("r.example", "a", None).await.unwrap();
    assert_eq!(found.credentials, None);
    assert!(found.told().contains("docker-credential-absent-helper-of-this-test (cannot be run"), "{}", found.told());
}

/// A helper that is this shell script.
#[cfg(unix)]
struct Script {
    dir: tempfile::TempDir,
}

#[cfg(unix)]
impl Script {
    fn new(text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("helper");
        // Written under another name first: a program that is still open for writing cannot be run.
        let (new, text) = (dir.path().join("new"), format!("#!/bin/sh\ncd {}\n{text}", dir.path().display()));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &program).unwrap();
        Self { dir }
    }

    fn helper(&self, limit: Duration) -> Helper {
        Helper::at(self.dir.path().join("helper"), limit, &Surroundings::default())
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }
}

#[cfg(unix)]
#[tokio::test]
async fn helpers_are_asked_by_the_protocol() {
    let script = Script::new(
        r#"read -r server
case "$1 $server" in
"get r.example") echo '{"ServerURL":"r.example","Username":"u","Secret":"p"}' ;;
"get https://index.docker.io/v1/") echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}' ;;
"get broken.example") echo 'boom'; exit 2 ;;
"get odd.example") echo 'secret' ;;
store*) echo "$server" > stored ;;
"erase r.example") ;;
"erase broken.example") exit 3 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#,
    );
    let helper = script.helper(LIMIT);
    assert_eq!(helper.get("r.example\n").await, Ok(password("u", "p")));
    assert_eq!(helper.get("https://index.docker.io/v1/").await, Ok(Some(Credentials::Identity("refresh".into()))));
    assert_eq!(helper.get("other.example").await, Ok(None));
    assert!(helper.get("broken.example").await.unwrap_err().to_string().contains("exit status: 2"));
    assert!(!helper.get("odd.example").await.unwrap_err().to_string().contains("secret"));
    helper.store("r.example", Some("u"), "p\"q").await.unwrap();
    assert_eq!(script.file("stored").trim(), r#"{"ServerURL":"r.example","Username":"u","Secret":"p\"q"}"#);
    helper.store("r.example", None, "t").await.unwrap();
    assert!(script.file("stored").contains(r#""Username":"<token>","Secret":"t""#));
    assert_eq!(helper.erase("r.example").await, Ok(true));
    assert_eq!(helper.erase("other.example").await, Ok(false));
    assert!(helper.erase("broken.example").await.is_err());
}

#[cfg(unix)]
fn is_running(pid: &str) -> bool {
    // A process that has exited and was not waited for is a zombie, which no longer runs.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_helper_that_hangs_is_ended_with_all_that_it_has_started() {
    let script = Script::new("echo $$ > own\nsleep 600 &\necho $! > child\nwait\n");
    let failure = script.helper(Duration::from_millis(300)).get("r.example").await.unwrap_err();
    assert!(failure.is_silent && failure.to_string() == "no answer within 0.3 s", "{failure}");
    for name in ["own", "child"] {
        let pid = script.file(name);
        assert!(!pid.is_empty());
        for _ in 0..100 {
            if !is_running(&pid) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!is_running(&pid), "{name} goes on");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_answer_counts_though_something_holds_the_output_open_and_one_without_end_does_not() {
    let begun = std::time::Instant::now();
    let script = Script::new("echo '{\"Username\":\"u\",\"Secret\":\"p\"}'\nsleep 5 &\n");
    assert_eq!(script.helper(LIMIT).get("r.example").await, Ok(password("u", "p")));
    let script = Script::new("while :; do echo secretsecretsecretsecretsecretsecretsecretsecretsecret; done\n");
    let failure = script.helper(LIMIT).get("r.example").await.unwrap_err();
    assert!(failure.to_string().contains("longer than 65536 bytes"), "{failure}");
    assert!(!failure.to_string().contains("secret") && begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn a_refusal_by_a_helper_is_no_answer_and_an_empty_secret_is_none() {
    assert_eq!(credential_helper::answer(true, br#"{"Username":"u","Secret":""}"#), Ok(None));
    assert_eq!(credential_helper::answer(false, br#"{"Username":"u","Secret":"p"}"#), Err(None));
    assert_eq!(credential_helper::answer(true, b"[]"), Err(Some("its answer is not JSON".to_owned())));
}

#[test]
fn a_helper_is_asked_for_docker_hub_under_its_old_name() {
    let text = br#"{"credHelpers":{"docker.io":"hub","r.example":"own"},"credsStore":"all"}"#;
    let config = ConfigFile::parse(Path::new("x"), text).unwrap();
    let helper = |name: &str, server: &str| ConfigEntry::Helper { name: name.into(), server: server.into() };
    assert_eq!(
        config.entries(&keys("docker.io", "library/nginx")),
        [helper("hub", "https://index.docker.io/v1/"), helper("all", "https://index.docker.io/v1/")]
    );
    assert_eq!(config.entries(&keys("r.example", "a")), [helper("own", "r.example"), helper("all", "r.example")]);
}
