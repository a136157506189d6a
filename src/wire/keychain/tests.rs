use super::*;
use std::fs;

const HUB: &str = "registry-1.docker.io";

fn password(user: &str, password: &str) -> Option<Credentials> {
    Some(Credentials::Password { user: user.into(), password: password.into() })
}

async fn look(text: &str, host: &str, path: &str) -> Result<Option<Credentials>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    fs::write(&file, text).unwrap();
    Ok(Keychain::new(Some(file), &Environment::default()).find(host, path).await?.credentials)
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
    let found = async || Keychain::new(None, &environment).find("r.example", "a").await.unwrap();
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
    let absent = Keychain::new(Some("/nowhere/auth.json".into()), &Environment::default());
    assert_eq!(absent.find("r.example", "a").await.unwrap_err().kind(), Kind::Usage);
    for wrong in [
        r#"{"auths":{"r.example":{"auth":"c2VjcmV0"}}}"#,
        r#"{"auths":{"r":{"auth":"!secret"}}}"#,
        r#"{"auths":"secret"}"#,
        "secret",
    ] {
        let error = look(wrong, "r.example", "a").await.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{wrong}");
        assert!(!error.chain().contains("secret") && error.chain().contains("auth.json"), "{}", error.chain());
    }
}

#[tokio::test]
async fn a_helper_that_is_no_name_is_never_run() {
    for name in ["", "../../bin/sh", "a b", "a/b"] {
        assert!(helper::ask(name, "r.example").await.is_err(), "{name}");
    }
    let text = r#"{"credsStore":"absent-helper-of-this-test","auths":{"r.example":{}}}"#;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("auth.json");
    fs::write(&file, text).unwrap();
    let found = Keychain::new(Some(file), &Environment::default()).find("r.example", "a").await.unwrap();
    assert_eq!(found.credentials, None);
    assert!(found.told().contains("docker-credential-absent-helper-of-this-test (cannot be run"), "{}", found.told());
}

#[cfg(unix)]
#[tokio::test]
async fn helpers_are_asked_by_the_protocol() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("docker-credential-test");
    let script = r#"#!/bin/sh
read -r server
case "$1 $server" in
"get r.example") echo '{"ServerURL":"r.example","Username":"u","Secret":"p"}' ;;
"get https://index.docker.io/v1/") echo '{"ServerURL":"x","Username":"<token>","Secret":"refresh"}' ;;
"get broken.example") echo 'boom'; exit 2 ;;
*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"#;
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let ask = async |server: &str| helper::run(program.to_str().unwrap(), server).await;
    assert_eq!(ask("r.example\n").await, Ok(password("u", "p")));
    assert_eq!(ask("https://index.docker.io/v1/").await, Ok(Some(Credentials::Identity("refresh".into()))));
    assert_eq!(ask("other.example").await, Ok(None));
    assert!(ask("broken.example").await.is_err());
}

#[test]
fn a_helper_is_asked_for_docker_hub_under_its_old_name() {
    let text = br#"{"credHelpers":{"docker.io":"hub","r.example":"own"},"credsStore":"all"}"#;
    let config = Config::parse(Path::new("x"), text).unwrap();
    let helper = |name: &str, server: &str| Entry::Helper { name: name.into(), server: server.into() };
    assert_eq!(
        config.entries(&keys("docker.io", "library/nginx")),
        [helper("hub", "https://index.docker.io/v1/"), helper("all", "https://index.docker.io/v1/")]
    );
    assert_eq!(config.entries(&keys("r.example", "a")), [helper("own", "r.example"), helper("all", "r.example")]);
}
